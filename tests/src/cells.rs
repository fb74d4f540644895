//! A table of faults: which workflow is hit in which stage, what is expected, and what was seen.
//!
//! A cell is played by making the stage fail before the workflow is asked for, waiting until the job
//! says so (node, stage, last words, next try), and healing it. A table is complete: every pair of
//! workflow and stage either is a cell or says why it cannot be.

use crate::say;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use straas_schemas::job::{JobStage, NodeStep};

/// What a fault comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expect {
    /// The job says so and tries again; once healed it succeeds.
    Heals,
    /// The canary fails, and the change is turned back.
    TurnedBack,
    /// The change is held; once healed it succeeds.
    Held,
}

/// Where a workflow is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The workflow.
    pub workflow: &'static str,
    /// Where it is hit.
    pub stage: &'static str,
    /// What it comes to.
    pub expect: Expect,
}

/// A cell that was played.
struct Played {
    cell: Cell,
    seen: String,
    shown_s: f64,
}

/// What was seen so far.
#[derive(Default)]
pub struct Rows(Mutex<Vec<Played>>);

impl Rows {
    /// A cell came to what was expected.
    pub fn seen(&self, cell: Cell, seen: String, shown_s: f64) {
        let seen = seen.split_whitespace().collect::<Vec<_>>().join(" ");
        say(&format!("  {} / {} ({:?}), {shown_s:.1} s: {seen}", cell.workflow, cell.stage, cell.expect));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Played { cell, seen, shown_s });
    }

    /// Prints the table and fails if a pair is missing: every workflow with every stage is a cell
    /// that was played, or one that cannot be.
    ///
    /// # Errors
    /// The pairs that are missing, or that are both.
    pub fn complete(&self, cells: &[Cell], workflows: &[&str], stages: &[&str], never: &[Never]) -> Result<()> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = Vec::new();
        say(&format!("  {:<14} {:<12} {:<11} {:>6}  seen", "workflow", "stage", "expected", "after"));
        for cell in cells {
            let Some(row) = rows.iter().find(|row| row.cell == *cell) else {
                wrong.push(format!("{cell:?} was not played"));
                continue;
            };
            let expected = format!("{:?}", cell.expect);
            let seen: String = row.seen.chars().take(140).collect();
            say(&format!("  {:<14} {:<12} {expected:<11} {:>4.1} s  {seen}", cell.workflow, cell.stage, row.shown_s));
        }
        for Never { stage, workflows, why } in never {
            say(&format!("  {:<14} {stage:<12} never: {why}", workflows.join(" ")));
        }
        let possible: BTreeSet<_> = cells.iter().map(|cell| (cell.workflow, cell.stage)).collect();
        for (workflow, stage) in workflows.iter().flat_map(|w| stages.iter().map(move |s| (*w, *s))) {
            let cannot = never.iter().filter(|n| n.stage == stage && n.workflows.contains(&workflow)).count();
            if usize::from(possible.contains(&(workflow, stage))) + cannot != 1 {
                wrong.push(format!("{workflow} / {stage} has to be a cell or to say why it cannot be"));
            }
        }
        ensure!(wrong.is_empty(), "the table is not complete: {}", wrong.join("; "));
        Ok(())
    }
}

/// Why a stage is no part of some workflows.
pub struct Never {
    /// The stage.
    pub stage: &'static str,
    /// The workflows.
    pub workflows: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// What a job says of a node that fails, in one line.
#[must_use]
pub fn told(stage: JobStage, node: &NodeStep) -> String {
    let last = node.output_tail.lines().next_back().unwrap_or_default();
    let again = if node.next_retry_ms.is_some() { ", tried again" } else { "" };
    format!("{} {} attempt {}{again}: {} [{last}]", node.name, stage.name(), node.attempt, node.detail)
}
