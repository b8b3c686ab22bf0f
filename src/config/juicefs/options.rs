//! What do the mount options of a volume say?

use std::collections::BTreeMap;

use super::path::VolumePath;
use super::special_options::{CACHE_DIRECTORY, MountAttributes, SUBDIRECTORY, Special, special};
use super::text::{Written, join, split};
use super::values::{CacheMedium, host_directories, host_directories_text};
use crate::config::field::{InvalidField, MAP_BYTES_MAX, quoted, too_long};
use crate::volume::{Execution, HostDirectory, Writability};

/// The value of `cache-dir` that means no directory.
pub(super) const CACHE_IN_MEMORY: &str = "memory";
/// Between directories in `cache-dir`, as the client has it.
pub(super) const CACHE_SEPARATOR: char = ':';
const OPTION_NAME_BYTES_MAX: usize = 64;
/// How the JuiceFS CSI driver writes a variable; nothing fills it in here.
const VARIABLE: &str = "${";

/// What `cache-dir` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// No directory.
    Memory,
    /// Directories of the node.
    Node(Vec<HostDirectory>),
}

impl CachePlace {
    pub(super) fn medium(&self) -> CacheMedium {
        match self {
            Self::Memory => CacheMedium::Memory,
            Self::Node(_) => CacheMedium::Node,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Memory => CACHE_IN_MEMORY.to_owned(),
            Self::Node(directories) => host_directories_text(directories, CACHE_SEPARATOR),
        }
    }
}

/// Mount options, told apart by whom they concern. Each option is there once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The mount itself.
    pub attributes: MountAttributes,
    /// `subdir`, when it names one below the root.
    pub subdirectory: Option<VolumePath>,
    /// `cache-dir`, when it was said.
    pub cache: Option<CachePlace>,
    /// The client's own options by name, without dashes before it; the value of one without `=` is empty.
    pub client: BTreeMap<String, String>,
}

impl MountOptions {
    /// Reads one text, as `volumeAttributes.mountOptions`; `field` is its name in errors. Commas, `=` and quotation marks
    /// in values are as the module `text` says.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option that can't be taken or is said twice with different values.
    pub fn of_text(field: &str, text: &str) -> Result<Self, InvalidField> {
        Self::default().with(field, &split(text).map_err(|why| InvalidField::new(field, why))?)
    }

    /// Reads `VolumeCapability.MountVolume.mount_flags`, the `mountOptions` of a PersistentVolume or StorageClass. One
    /// flag may hold several options.
    ///
    /// # Errors
    /// As [`MountOptions::of_text`], and when the flags are larger than CSI allows together (4 KiB).
    pub fn of_flags(field: &str, flags: &[String]) -> Result<Self, InvalidField> {
        Self::default().with_flags(field, flags)
    }

    /// These options and those of `mount_flags`.
    ///
    /// # Errors
    /// As [`MountOptions::of_flags`], also for an option with another value here.
    pub fn with_flags(mut self, field: &str, flags: &[String]) -> Result<Self, InvalidField> {
        let bytes: usize = flags.iter().map(String::len).sum();
        if bytes > MAP_BYTES_MAX {
            return Err(too_long(field, bytes, MAP_BYTES_MAX));
        }
        for (index, flag) in flags.iter().enumerate() {
            let field = format!("{field}[{index}]");
            let written = split(flag).map_err(|why| InvalidField::new(&field, why))?;
            self = self.with(&field, &written)?;
        }
        Ok(self)
    }

    /// Writes the options so that [`MountOptions::of_text`] gives them back.
    #[must_use]
    pub fn to_text(&self) -> String {
        join(&self.written())
    }

    /// Does it say nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn with(mut self, field: &str, written: &[Written]) -> Result<Self, InvalidField> {
        for option in written {
            self.take(option).map_err(|why| InvalidField::new(field, why.of_option(&option.name)))?;
        }
        Ok(self)
    }

    fn take(&mut self, option: &Written) -> Result<(), Refusal> {
        let Written { name, value } = option;
        match special(name) {
            Some(Special::Refused(why)) => Err(Refusal(why.to_owned())),
            Some(Special::Subdirectory) => self.take_subdirectory(given(value.as_deref())?),
            Some(Special::CacheDirectory) => once(&mut self.cache, cache(given(value.as_deref())?)?),
            Some(_) if value.is_some() => Err(Refusal("takes no value".to_owned())),
            Some(Special::Write(writability)) => once(&mut self.attributes.writability, writability),
            Some(Special::Execute(execution)) => once(&mut self.attributes.execution, execution),
            Some(Special::WithoutEffect) => Ok(()),
            None => self.take_of_client(name, value.as_deref()),
        }
    }

    fn take_subdirectory(&mut self, text: &str) -> Result<(), Refusal> {
        let path = VolumePath::below_root(text)
            .map_err(|why| Refusal(format!("is {}, which {why}", quoted(text))))?;
        path.map_or(Ok(()), |path| once(&mut self.subdirectory, path))
    }

    fn take_of_client(&mut self, name: &str, value: Option<&str>) -> Result<(), Refusal> {
        check_name(name)?;
        if value == Some("") {
            return Err(Refusal("has an empty value; leave '=' out".to_owned()));
        }
        let value = value.unwrap_or_default();
        if value.contains(VARIABLE) {
            return Err(Refusal(
                "has a variable in its value; variables are known in pathPattern only".to_owned(),
            ));
        }
        match self.client.get(name) {
            Some(before) if before != value => Err(contradiction()),
            _ => {
                self.client.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
        }
    }

    fn written(&self) -> Vec<Written> {
        let plain = |name: &str| Written { name: name.to_owned(), value: None };
        let valued =
            |name: &str, value: &str| Written { name: name.to_owned(), value: Some(value.to_owned()) };
        let write = self.attributes.writability.map(|writability| match writability {
            Writability::ReadOnly => plain("ro"),
            Writability::ReadWrite => plain("rw"),
        });
        let execute = self.attributes.execution.map(|execution| match execution {
            Execution::Allowed => plain("exec"),
            Execution::Refused => plain("noexec"),
        });
        let subdirectory = self.subdirectory.as_ref().map(|path| valued(SUBDIRECTORY, path.as_str()));
        let cache = self.cache.as_ref().map(|place| valued(CACHE_DIRECTORY, &place.text()));
        let client = self.client.iter().map(|(name, value)| match value.as_str() {
            "" => plain(name),
            value => valued(name, value),
        });
        write.into_iter().chain(execute).chain(subdirectory).chain(cache).chain(client).collect()
    }
}

/// Why an option can't be taken, as the rest of a sentence that begins with it. It repeats no value of the client's.
struct Refusal(String);

impl Refusal {
    fn of_option(&self, name: &str) -> String {
        format!("has the option {}, which {}", quoted(name), self.0)
    }
}

fn contradiction() -> Refusal {
    Refusal("is said twice with different values".to_owned())
}

fn once<T: PartialEq>(place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match place {
        Some(before) if *before != value => Err(contradiction()),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

fn given(value: Option<&str>) -> Result<&str, Refusal> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| Refusal("needs a value".to_owned()))
}

/// A directory is one of the node: one of its own the mount pod has by `cacheMedium`.
fn cache(value: &str) -> Result<CachePlace, Refusal> {
    if value == CACHE_IN_MEMORY {
        return Ok(CachePlace::Memory);
    }
    host_directories(value, CACHE_SEPARATOR).map(CachePlace::Node).map_err(Refusal)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.starts_with('-') {
        return Err(Refusal("must be written without '-' before its name".to_owned()));
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.len() <= OPTION_NAME_BYTES_MAX && name.chars().all(plain) {
        return Ok(());
    }
    let why = format!("must be at most {OPTION_NAME_BYTES_MAX} letters, digits, '-', '_' or '.'");
    Err(Refusal(why))
}

#[cfg(test)]
mod tests;
