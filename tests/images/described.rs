//! How is an image described? Reads its file list, its configuration and its Dockerfile.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const TITLE: &str = "org.opencontainers.image.title";

/// What an image's directory says.
pub(crate) struct Description {
    pub(crate) directory: PathBuf,
    pub(crate) title: String,
    pub(crate) user: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) files: Vec<Listed>,
    labels: BTreeMap<String, String>,
}

/// A line of the file list.
pub(crate) struct Listed {
    pub(crate) mode: u32,
    pub(crate) source: Source,
    pub(crate) destination: String,
}

/// Where a file comes from.
#[derive(PartialEq)]
pub(crate) enum Source {
    Directory,
    Program,
    /// A path in the repository.
    File(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Config {
    user: String,
    entrypoint: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Description {
    pub(crate) fn read(directory: &Path) -> Self {
        let config: Config = serde_json::from_str(&text(&directory.join("config.json"))).unwrap();
        let list = text(&directory.join("files"));
        let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            directory: directory.to_owned(),
            title: config.labels[TITLE].clone(),
            user: config.user,
            entrypoint: config.entrypoint,
            files: lines.map(Listed::parse).collect(),
            labels: config.labels,
        }
    }

    /// The labels, with the two that only a build knows.
    pub(crate) fn labels_with(&self, version: &str, revision: &str) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert("org.opencontainers.image.version".to_owned(), version.to_owned());
        labels.insert("org.opencontainers.image.revision".to_owned(), revision.to_owned());
        labels
    }
}

impl Listed {
    fn parse(line: &str) -> Self {
        let words: Vec<_> = line.split_whitespace().collect();
        let [mode, source, destination] = words[..] else { panic!("not a line of a file list: {line}") };
        let source = match source {
            "-" => Source::Directory,
            program if program.starts_with("bin/") => Source::Program,
            file => Source::File(file.to_owned()),
        };
        Self { mode: u32::from_str_radix(mode, 8).unwrap(), source, destination: destination.to_owned() }
    }
}

/// The parts of a Dockerfile with stages that build and a final stage from scratch.
pub(crate) struct Dockerfile {
    pub(crate) stages: Vec<Stage>,
    pub(crate) copies: Vec<String>,
    pub(crate) user: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A stage that builds something.
pub(crate) struct Stage {
    /// The image that it starts from.
    pub(crate) from: String,
    pub(crate) name: String,
    /// Its other lines.
    pub(crate) steps: Vec<String>,
}

impl Stage {
    fn parse(lines: &[&str]) -> Self {
        let (from, name) = lines[0].strip_prefix("FROM ").and_then(|rest| rest.split_once(" AS ")).unwrap();
        let steps = lines[1..].iter().map(ToString::to_string).collect();
        Self { from: from.to_owned(), name: name.to_owned(), steps }
    }
}

impl Dockerfile {
    pub(crate) fn read(directory: &Path) -> Self {
        let all = text(&directory.join("Dockerfile"));
        let lines: Vec<_> = all.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let end = lines.iter().position(|line| *line == "FROM scratch").unwrap();
        let (build, last) = lines.split_at(end);
        let mut read = Self {
            stages: build.chunk_by(|_, next| !next.starts_with("FROM ")).map(Stage::parse).collect(),
            copies: Vec::new(),
            user: String::new(),
            entrypoint: Vec::new(),
            labels: BTreeMap::new(),
        };
        for line in &last[1..] {
            let (instruction, rest) = line.split_once(' ').unwrap();
            match instruction {
                "ARG" => assert_eq!(rest, "REVISION=unknown"),
                "COPY" => read.copies.push(rest.to_owned()),
                "USER" => read.user = rest.to_owned(),
                "ENTRYPOINT" => read.entrypoint = serde_json::from_str(rest).unwrap(),
                "LABEL" => {
                    let (name, quoted) = rest.split_once('=').unwrap();
                    read.labels.insert(name.to_owned(), serde_json::from_str(quoted).unwrap());
                }
                other => panic!("{}: {other} is not expected", directory.display()),
            }
        }
        read
    }
}

fn text(path: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
