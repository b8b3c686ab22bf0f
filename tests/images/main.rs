//! Are the container images what we say they are? They are built, taken apart and started here, without an engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, runs programs of its own, each with a limit, and says what it measured"
)]

mod archive;
mod described;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Instant;

use archive::Image;
use described::{Description, Dockerfile, Source};

/// A first build compiles all dependencies with optimization, and a client of 44 MB; the rest is for a busy machine. In
/// seconds.
const BUILD_LIMIT: &str = "1800";
/// A program says its version within this. In seconds.
const RUN_LIMIT: &str = "10";
/// An image is pulled by every node before its first mount: in bytes. The JuiceFS client is most of the mount image.
const ARCHIVE_MAX: [(&str, u64); 2] = [("mountpod", 10 << 20), ("mountpod-mount", 24 << 20)];
/// The client of the mount image that is not ours, as it tells its version: the module's, and the commit of it.
const JUICEFS: &str = "juicefs version 1.4.1+2026-07-30.0b90c7db";
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const MADE_AT: &str = "1700000000";
const MADE_AT_IN_WORDS: &str = "2023-11-14T22:13:20Z";

#[test]
fn each_archive_is_a_valid_oci_layout_with_the_configuration_that_we_describe() {
    for (described, image) in images() {
        assert_eq!(image.layout_version, "1.0.0");
        assert_eq!(
            image.unreferenced,
            Vec::<String>::new(),
            "{}: nothing else is in the archive",
            described.title
        );
        assert_eq!(image.reference, env!("CARGO_PKG_VERSION"));

        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        assert_eq!(image.platform, ("linux".to_owned(), machine.to_owned()));
        assert_eq!(image.config["os"], "linux");
        assert_eq!(image.config["architecture"], machine);
        assert_eq!(image.config["created"], MADE_AT_IN_WORDS);

        let run = &image.config["config"];
        let said: Vec<_> = run.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            said,
            ["Entrypoint", "Labels", "User"],
            "no environment, no command, no volumes, no ports"
        );
        assert_eq!(run["User"], described.user);
        assert_eq!(run["Entrypoint"], serde_json::json!(described.entrypoint));
        assert_eq!(
            run["Labels"],
            serde_json::json!(described.labels_with(env!("CARGO_PKG_VERSION"), REVISION))
        );
    }
}

#[test]
fn the_users_are_root_for_the_driver_and_nobody_for_mount_pods() {
    let users: Vec<_> =
        descriptions().into_iter().map(|described| (described.title, described.user)).collect();
    let expected = [("mountpod", "0:0"), ("mountpod-mount", "65532:65532")];
    assert_eq!(users, expected.map(|(title, user)| (title.to_owned(), user.to_owned())));
}

#[test]
fn an_archive_is_small() {
    for described in descriptions() {
        let size = fs::metadata(archives().join(format!("{}.oci.tar", described.title))).unwrap().len();
        println!("image {}: {size} bytes", described.title);
        let (_, most) = ARCHIVE_MAX.into_iter().find(|(title, _)| *title == described.title).unwrap();
        assert!(size <= most, "{} has {size} bytes, at most {most}", described.title);
    }
}

#[test]
fn a_layer_holds_what_its_file_list_names_and_nothing_else() {
    for (described, image) in images() {
        let inside: BTreeMap<_, _> = image
            .entries
            .iter()
            .map(|entry| (entry.path.clone(), (entry.mode, entry.is_directory)))
            .collect();
        let listed: BTreeMap<_, _> = described
            .files
            .iter()
            .map(|file| (file.destination.clone(), (file.mode, file.source == Source::Directory)))
            .collect();
        assert_eq!(inside, listed, "{}", described.title);
        assert_eq!(inside.len(), image.entries.len(), "{}: no path twice", described.title);
        for entry in &image.entries {
            assert_eq!((entry.owner, entry.time), ((0, 0), 0), "{}", entry.path);
        }
        for file in &described.files {
            if let Source::File(path) = &file.source {
                assert_eq!(image.content(&file.destination), fs::read(repository().join(path)).unwrap());
            }
        }
    }
}

#[test]
fn programs_need_no_library_and_no_loader() {
    for (_, image) in images() {
        for program in image.programs() {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("program");
            fs::write(&file, image.content(program)).unwrap();
            let read = run(Command::new("readelf")
                .env("LC_ALL", "C")
                .args(["--program-headers", "--dynamic"])
                .arg(&file));
            let said = String::from_utf8_lossy(&read.stdout);
            assert!(said.contains("LOAD"), "{program} is an ELF program:\n{said}");
            assert!(!said.contains("INTERP"), "{program} asks for a loader:\n{said}");
            assert!(!said.contains("(NEEDED)"), "{program} asks for a library:\n{said}");
        }
    }
}

#[test]
fn programs_start_with_nothing_but_their_image_around_them() {
    for (described, image) in images() {
        let root = Root::of(&image);
        for program in image.programs() {
            let said = root.run(&described.user, &[program, "--version"]);
            let name = program.rsplit('/').next().unwrap();
            let expected = match name {
                "juicefs" => JUICEFS.to_owned(),
                name => format!("{name} {}", env!("CARGO_PKG_VERSION")),
            };
            assert_eq!(said.lines().next(), Some(expected.as_str()), "{program} --version");
        }
    }
}

#[test]
fn the_agent_tells_the_versions_of_the_clients_beside_it() {
    let (described, image) = images().pop().unwrap();
    let said = Root::of(&image).run(&described.user, &["/usr/bin/mount-agent", "--version"]);
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        format!("mount-agent {version}\nmount-hostdir: mount-hostdir {version}\njuicefs: {JUICEFS}\n");
    assert_eq!(said, expected);
}

#[test]
fn the_agent_copies_the_clients_out_of_an_image_that_has_no_cp() {
    let (described, image) = images().pop().unwrap();
    let root = Root::of(&image);
    let shared = root.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let (user, _) = described.user.split_once(':').unwrap();
    std::os::unix::fs::chown(&shared, Some(user.parse().unwrap()), None).unwrap();
    let said = root.run(&described.user, &["/usr/bin/mount-agent", "copy-clients", "/shared"]);
    assert_eq!(said, "/shared/mount-hostdir\n/shared/juicefs\n/shared/ca-certificates.crt\n");
    assert!(fs::read(shared.join("juicefs")).unwrap() == image.content("/usr/bin/juicefs"));
    let said = root.run("0:0", &["/shared/juicefs", "version"]);
    assert_eq!(said.trim_end(), JUICEFS);
}

#[test]
fn the_certificates_are_authorities_as_openssl_reads_them() {
    let (_, image) = images().pop().unwrap();
    let bundle = String::from_utf8(image.content("/etc/ssl/certs/ca-certificates.crt")).unwrap();
    let authorities = bundle.matches("-----BEGIN CERTIFICATE-----").count();
    println!("images certificates: {authorities} authorities");
    assert!((100..300).contains(&authorities), "Mozilla's store has some 150 roots");
    // Amazon's and Let's Encrypt's: what most object storages present.
    for root in ["CN=Amazon Root CA 1,", "CN=ISRG Root X1,"] {
        assert!(bundle.contains(root), "{root} is missing");
    }
}

#[test]
fn a_second_build_gives_the_same_bytes_whoever_calls_it() {
    let again = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let call = format!("umask 077; exec timeout --signal=KILL {BUILD_LIMIT} \"$0\" --out \"$1\"");
    let built = run(as_described(Command::new("sh").arg("-c").arg(call))
        .arg(repository().join("deploy/images/build"))
        .arg(again.path())
        .current_dir("/")
        .envs([
            ("TZ", "Asia/Kathmandu"),
            ("LC_ALL", "C.UTF-8"),
            ("RUSTFLAGS", "-Cdebuginfo=2"),
            ("GZIP", ""),
        ]));
    println!("images second build: {:.1} s", begun.elapsed().as_secs_f64());
    print!("{}", String::from_utf8_lossy(&built.stdout));
    for described in descriptions() {
        let file = format!("{}.oci.tar", described.title);
        let same = fs::read(archives().join(&file)).unwrap() == fs::read(again.path().join(&file)).unwrap();
        assert!(same, "{file} differs between two builds");
    }
}

#[test]
fn no_path_of_the_building_machine_is_inside() {
    let home = std::env::var("HOME").unwrap();
    let compiler = run(Command::new("rustc").args(["--print", "sysroot"]));
    let modules = run(Command::new("go").args(["env", "GOMODCACHE"]));
    let paths = [
        String::from_utf8(modules.stdout).unwrap().trim().to_owned(),
        repository().display().to_string(),
        std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo")),
        String::from_utf8(compiler.stdout).unwrap().trim().to_owned(),
    ];
    for (described, image) in images() {
        let config = image.config.to_string();
        for path in &paths {
            assert!(!config.contains(path), "{}: its configuration names {path}", described.title);
            for program in image.programs() {
                let inside = contains(&image.content(program), path.as_bytes());
                assert!(!inside, "{program} names {path}: deploy/images/binaries should have hidden it");
            }
        }
    }
}

#[test]
fn the_dockerfiles_say_what_the_script_does() {
    for described in descriptions() {
        let dockerfile = Dockerfile::read(&described.directory);
        // The stages run the script's own parts, so that there is one file list and one set of flags.
        let rust = env!("CARGO_PKG_RUST_VERSION");
        let list = described.directory.join("files");
        let lay_out =
            format!("RUN deploy/images/lay-out {} /image \"$(deploy/images/binaries)\"", list.display());
        let steps: Vec<_> = dockerfile.stages.iter().map(|stage| (&*stage.name, &stage.steps[..])).collect();
        match described.title.as_str() {
            "mountpod" => {
                assert_eq!(
                    steps,
                    [("build", &["WORKDIR /mountpod", "COPY . .", &lay_out].map(str::to_owned)[..])]
                );
            }
            _ => {
                let clients =
                    ["WORKDIR /mountpod", "COPY mount-image mount-image", "RUN mount-image/clients"];
                let copied = "COPY --from=clients /mountpod/target/clients target/clients";
                let all = format!("{lay_out} target/clients");
                let build = ["WORKDIR /mountpod", "COPY . .", copied, &all];
                assert_eq!(
                    steps,
                    [("clients", &clients.map(str::to_owned)[..]), ("build", &build.map(str::to_owned)[..])]
                );
            }
        }
        for stage in &dockerfile.stages {
            let wanted =
                if stage.name == "build" { format!("rust:{rust}-") } else { "golang:1.26-".to_owned() };
            assert!(stage.from.starts_with(&wanted), "{} is not {wanted}", stage.from);
        }

        assert_eq!(dockerfile.copies, ["--from=build /image/ /"], "the whole tree and nothing else");
        assert_eq!(dockerfile.user, described.user);
        assert_eq!(dockerfile.entrypoint, described.entrypoint);
        assert_eq!(dockerfile.labels, described.labels_with(env!("CARGO_PKG_VERSION"), "$REVISION"));
    }
}

#[test]
fn a_mistake_in_a_file_list_is_refused_by_name() {
    let cases = [
        ("0644 LICENSE /LICENSE extra", "MODE SOURCE DESTINATION"),
        ("4755 LICENSE /LICENSE", "MODE SOURCE DESTINATION"),
        ("0644 LICENSE LICENSE", "MODE SOURCE DESTINATION"),
        ("0755 - /../outside", "MODE SOURCE DESTINATION"),
        ("0755 - /not/listed", "/not/listed"),
        ("0555 bin/unknown /unknown", "bin/unknown"),
        ("0755 - /twice\n0755 - /twice", "/twice"),
    ];
    for (list, named) in cases {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("files");
        fs::write(&file, format!("{list}\n")).unwrap();
        let refused = Command::new(repository().join("deploy/images/lay-out"))
            .arg(&file)
            .arg(directory.path().join("root"))
            .arg(directory.path().join("bin"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(named),
            "{list:?} was not refused by name: {said}"
        );
        assert!(!directory.path().join("outside").exists());
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn descriptions() -> Vec<Description> {
    ["deploy/images/driver", "mount-image"].map(|directory| Description::read(Path::new(directory))).into()
}

fn images() -> Vec<(Description, Image)> {
    let open = |described: Description| {
        let image = Image::open(&archives().join(format!("{}.oci.tar", described.title)));
        (described, image)
    };
    descriptions().into_iter().map(open).collect()
}

/// An image's root directory, laid out.
struct Root(tempfile::TempDir);

impl Root {
    fn of(image: &Image) -> Self {
        let root = tempfile::tempdir().unwrap();
        image.unpack(root.path());
        for directory in ["dev", "proc"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        Self(root)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What a program says, with nothing around it but /proc and /dev, as in every container.
    fn run(&self, user: &str, words: &[&str]) -> String {
        let inside = "mount -t proc proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" \
            && exec chroot --userspec \"$1\" \"$0\" \"${@:2}\"";
        let said = run(Command::new("timeout")
            .args(["--signal=KILL", RUN_LIMIT, "unshare", "--mount", "--", "bash", "-c", inside])
            .arg(self.path())
            .arg(user)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
        String::from_utf8(said.stdout).unwrap()
    }
}

/// The directory of the archives, built once for all tests.
fn archives() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let out = repository().join("target/images/test");
        let begun = Instant::now();
        run(as_described(Command::new("timeout").args(["--signal=KILL", BUILD_LIMIT]))
            .arg(repository().join("deploy/images/build"))
            .arg("--out")
            .arg(&out));
        println!("images build: {:.1} s", begun.elapsed().as_secs_f64());
        out
    };
    BUILT.get_or_init(build).clone()
}

fn as_described(build: &mut Command) -> &mut Command {
    build.env("REVISION", REVISION).env("SOURCE_DATE_EPOCH", MADE_AT)
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    output
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
