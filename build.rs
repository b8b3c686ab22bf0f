//! How does proto/csi.proto become Rust? protox reads it (no `protoc` to install), tonic-prost-build writes messages,
//! servers and clients, and this file writes a `Debug` for every message that holds secrets.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, Value};

const PROTO: &str = "proto/csi.proto";
const PACKAGE: &str = "csi.v1";

/// Fields that CSI calls sensitive in words, without marking them with `csi_secret`.
const SENSITIVE_BY_WORDS: &[&str] = &["csi.v1.VolumeCapability.MountVolume.mount_flags"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file(PROTO)?;
    fs::write(out.join("csi_descriptor_set.bin"), compiler.encode_file_descriptor_set())?;

    let redaction = Redaction::of(&compiler.descriptor_pool())?;
    fs::write(out.join("csi_redacted_debug.rs"), redaction.debug_impls()?)?;

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .emit_rerun_if_changed(false)
        .skip_debug(redaction.messages.iter().map(|message| format!(".{}", message.full_name())))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// What must not be printed, and the messages that hold it.
struct Redaction {
    secret: ExtensionDescriptor,
    messages: Vec<MessageDescriptor>,
}

impl Redaction {
    fn of(pool: &DescriptorPool) -> Result<Self, Box<dyn Error>> {
        let option = format!("{PACKAGE}.csi_secret");
        let secret = pool.get_extension_by_name(&option).ok_or("csi.proto does not define csi_secret")?;
        let mut redaction = Self { secret, messages: Vec::new() };
        redaction.messages = pool
            .all_messages()
            .filter(|message| message.package_name() == PACKAGE)
            .filter(|message| message.fields().any(|field| redaction.hides(&field)))
            .collect();
        Ok(redaction)
    }

    fn hides(&self, field: &FieldDescriptor) -> bool {
        SENSITIVE_BY_WORDS.contains(&field.full_name())
            || field.options().get_extension(&self.secret).as_ref() == &Value::Bool(true)
    }

    /// Rust source: one `impl Debug` for each message, with `Hidden` in place of each hidden field.
    fn debug_impls(&self) -> Result<String, Box<dyn Error>> {
        let mut source = String::new();
        for message in &self.messages {
            if message.oneofs().next().is_some() {
                return Err(
                    format!("{}: has secrets and a oneof: write that case", message.full_name()).into()
                );
            }
            writeln!(source, "impl std::fmt::Debug for {} {{", rust_path(message))?;
            writeln!(source, "    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{")?;
            writeln!(source, "        f.debug_struct({:?})", message.name())?;
            for field in message.fields() {
                let name = field.name();
                let shown = if self.hides(&field) {
                    format!("Hidden(self.{name}.len())")
                } else {
                    format!("self.{name}")
                };
                writeln!(source, "            .field({name:?}, &{shown})")?;
            }
            writeln!(source, "            .finish()\n    }}\n}}")?;
        }
        Ok(source)
    }
}

/// The message's path below `v1`: prost puts a nested message into a module named after its parent in snake case.
fn rust_path(message: &MessageDescriptor) -> String {
    let mut path = message.name().to_owned();
    let mut parent = message.parent_message();
    while let Some(outer) = parent {
        path = format!("{}::{path}", snake_case(outer.name()));
        parent = outer.parent_message();
    }
    path
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
