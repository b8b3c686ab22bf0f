//! Which requests did a user make? Read from the API server's audit log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};

use serde_json::Value;

use crate::wait::let_pass;
use crate::world::World;

/// The API server writes a line some milliseconds after its answer.
const WRITTEN: std::time::Duration = std::time::Duration::from_millis(500);

/// A place in the log.
pub struct Mark(u64);

/// A request: what was done, with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub verb: String,
    pub resource: String,
    pub name: String,
    pub code: u64,
}

impl Request {
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list")
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} ({})", self.verb, self.resource, self.name, self.code)
    }
}

/// The end of the log now.
pub fn mark(world: &World) -> Mark {
    let_pass(WRITTEN);
    Mark(std::fs::metadata(&world.audit_log).expect("the audit log").len())
}

/// The requests of a user since then, without watches and leases.
pub fn requests(world: &World, user: &str, since: &Mark) -> Vec<Request> {
    let_pass(WRITTEN);
    let mut log = File::open(&world.audit_log).expect("the audit log");
    log.seek(SeekFrom::Start(since.0)).expect("the audit log only grows");
    let lines = BufReader::new(log).lines().map_while(Result::ok);
    let entries = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let finished =
        entries.filter(|entry| entry["stage"] == "ResponseComplete" && entry["user"]["username"] == user);
    let requests = finished.map(|entry| request(&entry));
    requests.filter(|request| request.verb != "watch" && request.resource != "leases").collect()
}

fn request(entry: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &entry["objectRef"];
    let resource = match (object["resource"].as_str(), object["subresource"].as_str()) {
        (Some(resource), Some(part)) => format!("{resource}/{part}"),
        (Some(resource), None) => resource.to_owned(),
        (None, _) => text(&entry["requestURI"]),
    };
    Request {
        verb: text(&entry["verb"]),
        resource,
        name: text(&object["name"]),
        code: entry["responseStatus"]["code"].as_u64().unwrap_or_default(),
    }
}

/// Requests in words.
pub fn told(requests: &[Request]) -> String {
    requests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
