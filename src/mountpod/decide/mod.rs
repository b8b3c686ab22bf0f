//! Given these facts and this goal, what is to be done next, and why?
//!
//! A pure function. A plan is a row of quick steps that may end in one slow step; after a slow step facts are read and
//! decided anew, so a plan never rests on what was seen before a long wait. The same facts and goal always give the
//! same plan, and each plan brings the facts nearer to the goal: this is why a driver that was killed between any two
//! steps only has to look and decide again.
//!
//! The order of steps keeps four promises at every moment in between:
//! - a target is counted before it is bound, and unbound before it is no longer counted;
//! - a session goes to another pod only when the client of the first is dead;
//! - a pod is deleted only when its client has flushed, or another pod counts all of its refs;
//! - a ref that is added while a pod is being ended wins (`DeletePod` carries the version that was seen).

mod ending;
mod publish;
mod reconcile;
mod serve;
#[cfg(test)]
mod tests;
mod unpublish;
mod view;

use super::facts::{Facts, Timestamp};
use super::plan::{Goal, Limits, Plan, PlannedStep, Refusal, Step, Verdict};
use publish::Publish;
use view::View;

/// Decides what is to be done next to reach the goal.
#[must_use]
pub fn decide(facts: &Facts, goal: &Goal, limits: &Limits) -> Plan {
    let view = View::new(facts, limits);
    match goal {
        Goal::Publish { target, writability, exclusivity, attempts } => publish::plan(
            &view,
            &Publish { target, writability: *writability, exclusivity: *exclusivity, attempts: *attempts },
        ),
        Goal::Unpublish { target } => unpublish::plan(&view, target),
        Goal::Reconcile => reconcile::plan(&view),
    }
}

/// The steps of a plan in the making.
#[derive(Debug, Default)]
struct Steps(Vec<PlannedStep>);

impl Steps {
    fn add(&mut self, step: Step, reason: impl Into<String>) {
        self.0.push(PlannedStep { step, reason: reason.into() });
    }

    fn reached(self) -> Plan {
        Plan { steps: self.0, verdict: Verdict::Reached, look_again_at: None }
    }

    fn reached_until(self, moment: Timestamp) -> Plan {
        Plan { steps: self.0, verdict: Verdict::Reached, look_again_at: Some(moment) }
    }

    fn look_again(self) -> Plan {
        Plan { steps: self.0, verdict: Verdict::LookAgain, look_again_at: None }
    }
}

fn refused(refusal: Refusal) -> Plan {
    Plan { steps: Vec::new(), verdict: Verdict::Refused(refusal), look_again_at: None }
}
