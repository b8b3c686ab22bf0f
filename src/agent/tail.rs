//! What were the client's last words? Kept within bounds, and without its credentials.

use std::collections::VecDeque;

use crate::volume::Secrets;

/// Bytes of last words that are kept.
pub(super) const TAIL_BYTES_MAX: usize = 8 * 1024;
/// The rest of a longer line is dropped.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Stands where a credential was.
const REDACTED: &str = "<redacted>";

/// The last lines of a client's output.
#[derive(Debug)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    unfinished: Vec<u8>,
    credentials: Secrets,
    /// Of these lines, how many the present program has said.
    present: usize,
    memorable: Option<&'static str>,
    remembered: Option<String>,
}

impl Tail {
    /// An empty tail that will show none of these credentials.
    pub(super) fn without(credentials: Secrets) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            unfinished: Vec::new(),
            credentials,
            present: 0,
            memorable: None,
            remembered: None,
        }
    }

    /// The last line with this in it will be remembered, however much is said after it.
    pub(super) fn remembering(self, memorable: Option<&'static str>) -> Self {
        Self { memorable, ..self }
    }

    /// Another program speaks from now on.
    pub(super) fn begin(&mut self) {
        self.present = 0;
        self.remembered = None;
    }

    /// The line that was to be remembered, as it was said: not to be shown.
    pub(super) fn remembered(&self) -> Option<&str> {
        self.remembered.as_deref()
    }

    /// Takes output as it comes; gives back the lines that are complete now.
    pub(super) fn take(&mut self, output: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for &byte in output {
            if byte == b'\n' {
                complete.extend(self.end_line());
            } else if self.unfinished.len() < LINE_BYTES_MAX {
                self.unfinished.push(byte);
            }
        }
        complete
    }

    /// Ends a line that has no newline: its writer is dead.
    pub(super) fn end_line(&mut self) -> Option<String> {
        let mut bytes = std::mem::take(&mut self.unfinished);
        if bytes.is_empty() {
            return None;
        }
        if bytes.len() >= LINE_BYTES_MAX {
            // Half a credential at the cut would not be recognised.
            let longest = self.credentials.expose().map(|(_, value)| value.len()).max().unwrap_or(0);
            bytes.truncate(LINE_BYTES_MAX.saturating_sub(longest));
        }
        let mut line = String::from_utf8_lossy(&bytes).into_owned();
        // Before a credential that looks like a part of it is taken out; it is for this program, not for people.
        if self.memorable.is_some_and(|memorable| line.contains(memorable)) {
            self.remembered = Some(line.clone());
        }
        for (_, value) in self.credentials.expose() {
            if !value.is_empty() {
                line = line.replace(value, REDACTED);
            }
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line.clone());
        self.present += 1;
        while self.bytes > TAIL_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
        self.present = self.present.min(self.lines.len());
        Some(line)
    }

    /// The last words of the present program alone.
    pub(super) fn present(&self) -> String {
        let lines = self.lines.iter().skip(self.lines.len() - self.present);
        lines.map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The last words.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        Tail::without([("key".to_owned(), "hunter2-hunter2".to_owned())].into_iter().collect())
    }

    #[test]
    fn the_last_lines_are_kept_within_bounds() {
        let mut tail = tail();
        for n in 0..10_000 {
            tail.take(format!("line {n}\n").as_bytes());
        }
        assert!(tail.text().len() <= TAIL_BYTES_MAX);
        assert!(tail.text().ends_with("line 9998\nline 9999"));
        tail.take(&vec![b'x'; 1 << 20]);
        tail.end_line();
        assert!(tail.text().len() <= TAIL_BYTES_MAX, "a line without end is cut");
    }

    #[test]
    fn the_present_program_s_words_are_told_apart_and_one_line_is_remembered() {
        let mut tail = tail().remembering(Some("session"));
        tail.take(b"session 1\nold\n");
        assert_eq!(tail.remembered(), Some("session 1"));
        tail.begin();
        assert_eq!((tail.remembered(), tail.present().as_str()), (None, ""));
        tail.take(b"session 2\n");
        for n in 0..10_000 {
            tail.take(format!("line {n}\n").as_bytes());
        }
        assert_eq!(tail.remembered(), Some("session 2"));
        assert_eq!(tail.present(), tail.text());
    }

    #[test]
    fn credentials_are_never_kept_also_in_parts() {
        let mut tail = tail();
        assert!(tail.take(b"password hunter2-").is_empty());
        assert_eq!(tail.take(b"hunter2 is wrong\nmore"), ["password <redacted> is wrong"]);
        assert_eq!(tail.end_line().as_deref(), Some("more"));
        let mut long = vec![b'x'; LINE_BYTES_MAX - 7];
        long.extend_from_slice(b"hunter2-hunter2\n");
        tail.take(&long);
        assert!(!tail.text().contains("hunter2"), "{}", &tail.text()[..60]);
    }
}
