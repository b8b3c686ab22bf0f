//! How does a test talk to the API server?
//!
//! Through `kubectl proxy` on a Unix socket: a request costs milliseconds, where a kubectl of its own would cost a tenth
//! of a second of a processor that the node needs. HTTP/1.0, so that an answer is its headers and all that follows.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::wait::eventually;

/// An API server that is busy with 20 pods still answers within this time.
const ANSWER: Duration = Duration::from_secs(30);
/// `kubectl proxy` opens its socket.
const PROXY: Duration = Duration::from_secs(20);
/// A command in a pod, or kubectl with a wait of its own.
const COMMAND_SECONDS: &str = "60";

/// A connection to the API server as the cluster's administrator.
pub struct Api {
    socket: PathBuf,
    proxy: Mutex<Child>,
    _scratch: tempfile::TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("no JSON ({why}): {}", self.body))
    }
}

impl Api {
    /// Starts the proxy.
    pub fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let socket = scratch.path().join("api.sock");
        let proxy = Command::new("kubectl")
            .args(["proxy", "--unix-socket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("kubectl starts");
        let api = Self { socket, proxy: Mutex::new(proxy), _scratch: scratch };
        eventually(PROXY, "kubectl proxy", || api.try_call("GET", "/readyz", "", "").map(|_| ()));
        api
    }

    fn try_call(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Answer, String> {
        let said = |why: std::io::Error| format!("{method} {path}: {why}");
        let mut stream = UnixStream::connect(&self.socket).map_err(said)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(said)?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(said)?;
        stream.write_all(body.as_bytes()).map_err(said)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(said)?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) =
            text.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: cut off: {text}"))?;
        let code = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let code = code.ok_or_else(|| format!("{method} {path}: no HTTP: {head}"))?;
        Ok(Answer { code, body: body.to_owned() })
    }

    /// Any request; the caller judges the answer.
    pub fn call(&self, method: &str, path: &str, kind: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.try_call(method, path, kind, &body).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The object, if there is one.
    pub fn get(&self, path: &str) -> Option<Value> {
        let answer = self.call("GET", path, "", &Value::Null);
        match answer.code {
            200 => Some(answer.json()),
            404 => None,
            code => panic!("GET {path}: {code}: {}", answer.body),
        }
    }

    /// Text that is no JSON, as a log.
    pub fn text(&self, path: &str) -> Result<String, String> {
        let answer = self.call("GET", path, "", &Value::Null);
        if answer.code == 200 { Ok(answer.body) } else { Err(format!("{}: {}", answer.code, answer.body)) }
    }

    /// The items of a list.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let found = self.get(path).unwrap_or_else(|| panic!("nothing is served at {path}"));
        found["items"].as_array().cloned().unwrap_or_default()
    }

    /// Makes an object in the collection at `path`.
    pub fn create(&self, path: &str, object: &Value) -> Value {
        let answer = self.call("POST", path, "application/json", object);
        assert!((200..300).contains(&answer.code), "POST {path}: {}: {}", answer.code, answer.body);
        answer.json()
    }

    /// A JSON merge patch.
    pub fn patch(&self, path: &str, patch: &Value) {
        let answer = self.call("PATCH", path, "application/merge-patch+json", patch);
        assert!(answer.code == 200, "PATCH {path}: {}: {}", answer.code, answer.body);
    }

    /// Deletes, with the object's own grace period; one that is gone already is no error.
    pub fn delete(&self, path: &str) {
        self.delete_with(path, &Value::Null);
    }

    /// As `kubectl delete --force --grace-period=0`.
    pub fn delete_by_force(&self, path: &str) {
        self.delete_with(path, &serde_json::json!({"gracePeriodSeconds": 0}));
    }

    fn delete_with(&self, path: &str, options: &Value) {
        let answer = self.call("DELETE", path, "application/json", options);
        assert!(matches!(answer.code, 200 | 202 | 404), "DELETE {path}: {}: {}", answer.code, answer.body);
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let mut proxy = self.proxy.lock().expect("nobody panicked in there");
        let _ = proxy.kill();
        let _ = proxy.wait();
    }
}

/// Runs a shell command in a pod's first container.
pub fn exec(namespace: &str, pod: &str, command: &str) -> Result<String, String> {
    kubectl(&["exec", "-n", namespace, pod, "--", "sh", "-c", command])
}

/// Runs kubectl; the error is what it said.
pub fn kubectl(words: &[&str]) -> Result<String, String> {
    let output = Command::new("timeout").arg(COMMAND_SECONDS).arg("kubectl").args(words).output();
    let output = output.map_err(|why| format!("kubectl: {why}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
