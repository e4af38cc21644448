//! `list`: an agent's tasks, one a line, page by page.

use std::ffi::OsString;
use std::io::IsTerminal;

use crate::cli::remote::{Options, shown};
use crate::cli::{Failure, say, variable};
use crate::outbound::client::{Call, Filter, Message, Raw, Reply, Task};

/// Tasks printed without `--limit`.
const LIMIT: u32 = 50;
/// Tasks asked for at once: with their artifacts, a page must stay below the bound of a reply.
const PAGE: u32 = 20;

pub fn list(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::of_list(arguments)?;
    let (client, _) = options.client(0, "list [OPTIONS] [URL]")?;
    let mut left = options.limit.unwrap_or(LIMIT);
    let mut filter = Filter {
        context_id: options.context.clone(),
        state: options.status,
        history_length: Some(1),
        include_artifacts: true,
        ..Filter::default()
    };
    let width = width();
    while left > 0 {
        filter.page_size = Some(left.min(PAGE));
        let page = client.call(&Call::List(&filter))?;
        let tasks = page.tasks()?;
        let next = page.next_page();
        for raw in tasks.iter().take(left as usize) {
            print(raw, options.json, width)?;
            left -= 1;
        }
        // An agent that gives the same page again and again is left.
        if tasks.is_empty() || next.is_none() || next == filter.page_token {
            break;
        }
        filter.page_token = next;
    }
    Ok(())
}

fn print(raw: &Raw, as_json: bool, width: Option<usize>) -> Result<(), Failure> {
    if as_json {
        return say(raw.json());
    }
    let task = raw.task()?;
    let line = line(task);
    match width {
        Some(width) => say(cut(&shown(&line), width)),
        None => say(line),
    }
}

/// Id, state, time and the first line of what was replied, else of what was asked.
fn line(task: Task) -> String {
    let time = task.status.timestamp.as_deref().unwrap_or("-");
    // Fractions of a second tell a reader nothing.
    let time = time
        .find('.')
        .filter(|_| time.ends_with('Z'))
        .map_or_else(|| time.to_owned(), |at| format!("{}Z", &time[..at]));
    let head = format!("{} {:<14} {time:<20} ", task.id, task.status.state.name());
    let asked = task.history.last().map(Message::text).unwrap_or_default();
    let replied = Reply::Task(task).text();
    let text = if replied.is_empty() { asked } else { replied };
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("{head}{}", first.trim()).trim_end().to_owned()
}

/// Columns of the terminal that reads our output; `None` when it is none.
fn width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let told = variable("COLUMNS").and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col));
    told.or_else(asked).filter(|columns| *columns > 0)
}

/// As much of a line as fits, with an ellipsis for the rest. East Asian characters and pictures take two columns.
fn cut(line: &str, width: usize) -> String {
    let columns = |c: char| if c >= '\u{1100}' { 2 } else { 1 };
    if line.chars().map(columns).sum::<usize>() <= width {
        return line.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += columns(*c);
        used <= width
    };
    let mut text: String = line.chars().take_while(fits).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_columns_it_has() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 1), "…");
    }
}
