//! What does the mount-agent hear from this client?

use serde::Serialize;

use super::{fds, sys};

/// One datagram to the agent.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A serving process is up.
    Serving { generation: u64, pid: i32 },
    /// A serving process died, by a signal or by leaving; another is started.
    ServerDied {
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
    },
}

/// Tells the agent; never waits for it. An agent that does not read loses events, not the volume.
pub(crate) fn tell(event: &Event) {
    let sent = serde_json::to_vec(event)
        .map_err(|_| nix::errno::Errno::EINVAL)
        .and_then(|datagram| sys::send(fds::AGENT, &datagram));
    if let Err(error) = sent {
        tracing::debug!(?event, %error, "the mount-agent was not told");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use super::*;

    #[test]
    fn events_look_as_the_agent_expects() {
        let text = |event: Event| serde_json::to_string(&event).unwrap();
        assert_eq!(
            text(Event::Serving { generation: 3, pid: 7 }),
            r#"{"event":"serving","generation":3,"pid":7}"#
        );
        assert_eq!(
            text(Event::ServerDied { signal: Some(9), exit: None }),
            r#"{"event":"server_died","signal":9}"#
        );
        assert_eq!(
            text(Event::ServerDied { signal: None, exit: Some(71) }),
            r#"{"event":"server_died","exit":71}"#
        );
    }
}
