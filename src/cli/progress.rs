//! How far a long command is: a bar on standard error, for people at a terminal only.

use std::fmt::Write;
use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::output::{is_coloured, is_dumb};
use crate::status::rounded_bytes;

/// How often the bar is drawn, in times a second at most.
const DRAWN_PER_SECOND: u8 = 10;

/// The bar of one command. Without a terminal every method does nothing.
///
/// Clones are the same bar, so that several threads can advance it. When the last one is dropped, the bar is gone from the
/// screen, unless [`Progress::finish`] left it there.
#[derive(Debug, Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar that shows bytes; `total` is how many there will be, where that is known.
    pub(super) fn of_bytes(total: Option<u64>) -> Self {
        if !io::stderr().is_terminal() || is_dumb() {
            return Self::none();
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(style(total.is_some()));
        Self(bar)
    }

    /// No bar: for `--json`, or where standard output is the terminal and has bytes to show.
    pub(super) fn none() -> Self {
        Self(ProgressBar::hidden())
    }

    /// So many bytes are done by now.
    pub(super) fn reach(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// So many bytes more are done.
    pub(super) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// What is being worked on, behind the figures.
    pub(super) fn tell(&self, text: impl AsRef<str>) {
        self.0.set_message(printable(text.as_ref()));
    }

    /// Writes something else to the terminal, to either stream, with the bar out of the way.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Draws the bar a last time and leaves it on the screen.
    pub(super) fn finish(self) {
        self.0.abandon();
    }
}

fn style(bounded: bool) -> ProgressStyle {
    let template = match (bounded, is_coloured()) {
        (true, true) => "{percent:>3} % of {size} [{bar:16.green}] {speed:>10} {eta:>4} {wide_msg}",
        (true, false) => "{percent:>3} % of {size} [{bar:16}] {speed:>10} {eta:>4} {wide_msg}",
        (false, _) => "{done} {speed:>10} {wide_msg}",
    };
    // The templates are ours, and a test reads them.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let size =
        |state: &ProgressState, out: &mut dyn Write| write(out, &rounded_bytes(state.len().unwrap_or(0)));
    let done = |state: &ProgressState, out: &mut dyn Write| write(out, &rounded_bytes(state.pos()));
    let speed = |state: &ProgressState, out: &mut dyn Write| {
        // A saturating cast: what is no number is 0.
        write(out, &format!("{}/s", rounded_bytes(state.per_sec() as u64)));
    };
    style.with_key("size", size).with_key("done", done).with_key("speed", speed).progress_chars("=> ")
}

fn write(out: &mut dyn Write, text: &str) {
    // Writing to a String cannot fail.
    let _ = out.write_str(text);
}

/// A name of a file may have anything in it, also what a terminal obeys.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}d é"), "a?[2Jb?c?d é");
    }

    #[test]
    fn a_bar_of_nothing_and_one_without_an_end_do_not_fail() {
        for total in [None, Some(0), Some(u64::MAX)] {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
            bar.set_style(style(total.is_some()));
            let progress = Progress(bar);
            progress.reach(u64::MAX);
            progress.advance(1);
            progress.tell("x");
            assert_eq!(progress.clone().aside(|| 5), 5);
            progress.finish();
        }
    }
}
