//! What were the client's last words? Kept within bounds, and without its credentials.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::volume::Secrets;

/// Bytes of last words that are kept.
pub(super) const TAIL_BYTES_MAX: usize = 8 * 1024;
/// So long a complaint of a client that serves counts: it repeats itself while something is wrong.
const COMPLAINT_MEMORY: Duration = Duration::from_secs(60);
/// Characters of a complaint that are told.
const COMPLAINT_CHARS_MAX: usize = 400;
/// The rest of a longer line is dropped.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// What a line means beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing.
    Nothing,
    /// The last such line is remembered, however much is said after it.
    Memorable,
    /// Something is wrong, although the client serves.
    Complaint,
    /// The program has failed, although it has not ended yet.
    LastTry,
}

/// Tells what a line means.
pub(super) type Ear = fn(&str) -> Meaning;

/// A line of a client's output.
struct Line {
    /// Without credentials.
    shown: String,
    /// As it was said: a credential may look like a part of what tells its meaning.
    said: String,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

/// The last lines of a client's output.
#[derive(Debug)]
pub(super) struct Tail {
    lines: VecDeque<Line>,
    bytes: usize,
    unfinished: Vec<u8>,
    credentials: Secrets,
    /// Of these lines, how many the present program has said.
    present: usize,
    ear: Ear,
    remembered: Option<String>,
    complaint: Option<(Instant, String)>,
    is_last_try: bool,
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
            ear: |_| Meaning::Nothing,
            remembered: None,
            complaint: None,
            is_last_try: false,
        }
    }

    /// What lines mean from now on.
    pub(super) fn hearing(self, ear: Ear) -> Self {
        Self { ear, ..self }
    }

    /// What was complained of up to now is settled.
    pub(super) fn settle(&mut self) {
        self.complaint = None;
    }

    /// Has the present program failed for the last time?
    pub(super) fn is_last_try(&self) -> bool {
        self.is_last_try
    }

    /// Another program speaks from now on.
    pub(super) fn begin(&mut self) {
        self.present = 0;
        self.remembered = None;
        self.complaint = None;
        self.is_last_try = false;
    }

    /// What the present program has complained of a short time ago.
    pub(super) fn complaint(&self) -> Option<&str> {
        let recent = self.complaint.as_ref().filter(|(said, _)| said.elapsed() < COMPLAINT_MEMORY);
        recent.map(|(_, line)| line.as_str())
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
        let said = String::from_utf8_lossy(&bytes).into_owned();
        let shown = self.credentials.hidden_in(said.clone());
        match (self.ear)(&said) {
            Meaning::Nothing => {}
            Meaning::Memorable => self.remembered = Some(said.clone()),
            Meaning::Complaint => {
                self.complaint = Some((Instant::now(), shown.chars().take(COMPLAINT_CHARS_MAX).collect()));
            }
            Meaning::LastTry => self.is_last_try = true,
        }
        self.keep(Line { shown: shown.clone(), said });
        Some(shown)
    }

    fn keep(&mut self, line: Line) {
        self.bytes += line.shown.len() + 1;
        self.lines.push_back(line);
        self.present += 1;
        while self.bytes > TAIL_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.shown.len() + 1;
        }
        self.present = self.present.min(self.lines.len());
    }

    /// The last words of the present program alone, as they were said: to be understood, not to be shown.
    pub(super) fn said(&self) -> String {
        let lines = self.lines.iter().skip(self.lines.len() - self.present);
        lines.map(|line| line.said.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// The last words.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| line.shown.as_str()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        Tail::without([("key".to_owned(), "hunter2-hunter2".to_owned())].into_iter().collect())
    }

    fn tail_that_hears() -> Tail {
        tail().hearing(|line| match line {
            _ if line.contains("session") => Meaning::Memorable,
            _ if line.contains("<ERROR>") => Meaning::Complaint,
            _ if line.contains("tries: #3") => Meaning::LastTry,
            _ => Meaning::Nothing,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_complaint_counts_for_a_while() {
        let mut tail = tail_that_hears();
        tail.take(b"<INFO>: fine\n<ERROR>: no bucket for hunter2-hunter2\n<INFO>: fine\n");
        assert_eq!(tail.complaint(), Some("<ERROR>: no bucket for <redacted>"));
        tokio::time::advance(COMPLAINT_MEMORY - Duration::from_secs(1)).await;
        assert!(tail.complaint().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tail.complaint(), None);
        tail.take(format!("<ERROR>: {}\n", "x".repeat(4000)).as_bytes());
        assert_eq!(tail.complaint().map(str::len), Some(COMPLAINT_CHARS_MAX));
        tail.begin();
        assert_eq!(tail.complaint(), None, "another program");
    }

    #[test]
    fn a_last_try_is_known_until_another_program_begins() {
        let mut tail = tail_that_hears();
        tail.take(b"failed, tries: #1\nfailed, tries: #2\nfailed, tries: #3");
        assert!(!tail.is_last_try(), "the line may not be complete");
        tail.take(b"\n");
        assert!(tail.is_last_try());
        tail.begin();
        assert!(!tail.is_last_try());
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
        let mut tail = tail_that_hears();
        tail.take(b"session 1\nold\n");
        assert_eq!(tail.remembered(), Some("session 1"));
        tail.begin();
        assert_eq!((tail.remembered(), tail.said().as_str()), (None, ""));
        tail.take(b"session 2\n");
        for n in 0..10_000 {
            tail.take(format!("line {n}\n").as_bytes());
        }
        assert_eq!(tail.remembered(), Some("session 2"));
        assert_eq!(tail.said(), tail.text());
    }

    #[test]
    fn credentials_are_never_kept_also_in_parts() {
        let mut tail = tail();
        assert!(tail.take(b"password hunter2-").is_empty());
        assert_eq!(tail.take(b"hunter2 is wrong\nmore"), ["password <redacted> is wrong"]);
        assert_eq!(tail.end_line().as_deref(), Some("more"));
        assert_eq!(tail.said(), "password hunter2-hunter2 is wrong\nmore", "it is understood as it was said");
        assert!(!format!("{tail:?}").contains("hunter2") && !tail.text().contains("hunter2"));
        let mut long = vec![b'x'; LINE_BYTES_MAX - 7];
        long.extend_from_slice(b"hunter2-hunter2\n");
        tail.take(&long);
        assert!(!tail.text().contains("hunter2"), "{}", &tail.text()[..60]);
    }
}
