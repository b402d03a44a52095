//! Tells of fits on standard error: a bar while one runs, and what the user should know.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::output::{number, thousands};
use crate::models::{Observer, Pass};

/// What of fits is told.
#[derive(Debug)]
pub(super) struct Progress {
    quiet: bool,
    /// Whether standard error is a terminal that can show a bar.
    bars: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    /// Silent if `quiet`; without bars where standard error is no terminal.
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            bars: !quiet && std::io::stderr().is_terminal(),
            bar: Mutex::new(None),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bar away, after a cancelled query for instance.
    pub(super) fn clear(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Before the first pass there is nothing to judge by.
        if state.pos() > 0 {
            let _ = write!(out, ", at most {} left", time(state.eta().as_secs_f64()));
        }
    };
    ProgressStyle::with_template("{prefix} [{bar:30}] pass {pos} of {len}{msg}{left}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("left", left)
}

/// A time as people say it.
pub(super) fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{seconds:.3} s")
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if seconds < 3600.0 {
        format!("{} min {} s", seconds as u64 / 60, seconds as u64 % 60)
    } else {
        format!("{} h {} min", seconds as u64 / 3600, seconds as u64 % 3600 / 60)
    }
}

impl Observer for Progress {
    fn started(&self, what: &str, row_count: usize, max_passes: usize) {
        if !self.bars {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(max_passes.max(1) as u64), ProgressDrawTarget::stderr());
        bar.set_style(style());
        bar.set_prefix(format!("{what}, {} rows", thousands(row_count as u64)));
        bar.tick();
        if let Some(before) = self.bar().replace(bar) {
            before.finish_and_clear();
        }
    }

    fn pass(&self, pass: &Pass) {
        if let Some(bar) = self.bar().as_ref() {
            if bar.length().is_some_and(|length| bar.position() >= length) {
                bar.set_length(bar.position() + 1);
            }
            if let Some(loss) = pass.loss {
                bar.set_message(format!(", loss {}", number(loss)));
            }
            bar.inc(1);
        }
    }

    fn notice(&self, notice: &str) {
        if self.quiet {
            return;
        }
        let print = || {
            let _ = writeln!(std::io::stderr(), "notice: {notice}");
        };
        match self.bar().as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finished(&self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0.0342), "0.034 s");
        assert_eq!(time(12.34), "12.3 s");
        assert_eq!(time(75.0), "1 min 15 s");
        assert_eq!(time(3700.0), "1 h 1 min");
    }
}
