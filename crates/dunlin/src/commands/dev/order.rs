//! What can be typed into the console of `dunlin dev --nodes N`, as a pure function.

use super::seat::Seat;

/// A command of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// End an agent as a crash would.
    Kill(Seat),
    /// End an agent in good order: it leaves.
    Stop(Seat),
    /// Bring an agent back.
    Start(Seat),
    /// Cut groups off from each other.
    Partition(Vec<Vec<Seat>>),
    /// Lose what one sends to the other.
    Cut { from: Seat, to: Seat },
    /// Undo cuts and partitions, and bring back what was killed.
    Heal,
    /// Show the nodes as each agent sees them.
    Nodes,
    /// Show the services as each agent sees them.
    Services,
    /// List what can be asked for.
    Help,
    /// Stop all and end.
    Quit,
}

/// One line for each command, for people.
pub(super) const HELP: &str = "\
kill z2               end the agent of zone z2 as a crash would; n2, its node, means the same
stop z2               end it in good order: it says that it leaves
start z2              bring it back
partition z1|z2,z3    cut the groups off from each other; who is in no group reaches all
cut z1 z2             lose what z1 sends to z2, but not the other way
heal                  undo partitions and cuts, and bring back what was killed
nodes                 the nodes, as each agent sees them
services              the services, as each agent sees them
help                  this list
quit                  stop all agents and end";

const COMMANDS: &str =
    "commands: kill, stop, start, partition, cut, heal, nodes, services, help, quit";

/// Parses a line; an empty one is no command.
///
/// # Errors
/// A sentence that says what was wrong and what would be right.
pub(super) fn parse(line: &str, count: u8) -> Result<Option<Order>, String> {
    let line = line.trim();
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let words: Vec<_> = rest.split_whitespace().collect();
    let one = |example: &str| match words[..] {
        [word] => seat(word, count),
        _ => Err(format!("{command} takes one node, for example: {example}")),
    };
    let order = match command {
        "" => return Ok(None),
        "kill" => Order::Kill(one("kill z2")?),
        "stop" => Order::Stop(one("stop z2")?),
        "start" => Order::Start(one("start z2")?),
        "partition" => Order::Partition(groups(rest, count)?),
        "cut" => cut(&words, count)?,
        "heal" | "nodes" | "services" | "help" | "quit" if !words.is_empty() => {
            return Err(format!("{command} takes nothing else; {:?} is too much", rest.trim()));
        }
        "heal" => Order::Heal,
        "nodes" => Order::Nodes,
        "services" => Order::Services,
        "help" => Order::Help,
        "quit" => Order::Quit,
        _ => return Err(format!("there is no command {command:?}; {COMMANDS}")),
    };
    Ok(Some(order))
}

fn seat(word: &str, count: u8) -> Result<Seat, String> {
    Seat::find(word, count).ok_or_else(|| {
        let last = Seat::all(count).last().map(|s| s.zone()).unwrap_or_default();
        format!(
            "there is no {word:?}; nodes go by their zones, z1 to {last}, or names, n1 and so on"
        )
    })
}

fn cut(words: &[&str], count: u8) -> Result<Order, String> {
    let &[from, to] = words else {
        return Err("cut takes two nodes, from and to, for example: cut z1 z2".to_owned());
    };
    let (from, to) = (seat(from, count)?, seat(to, count)?);
    if from == to {
        return Err("a node cannot be cut off from itself".to_owned());
    }
    Ok(Order::Cut { from, to })
}

/// Groups stand between `|`, their nodes between commas or spaces.
fn groups(text: &str, count: u8) -> Result<Vec<Vec<Seat>>, String> {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let group = |text: &str| -> Result<Vec<Seat>, String> {
        text.split(is_between).filter(|w| !w.is_empty()).map(|w| seat(w, count)).collect()
    };
    let groups = text.split('|').map(group).collect::<Result<Vec<_>, _>>()?;
    if groups.len() < 2 || groups.iter().any(Vec::is_empty) {
        return Err("partition takes two groups or more, for example: partition z1|z2,z3".into());
    }
    let mut all: Vec<_> = groups.iter().flatten().collect();
    all.sort();
    if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{} stands in two places", pair[0].zone()));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn z(number: u8) -> Seat {
        Seat::all(number).last().unwrap()
    }

    #[test]
    fn every_command_is_understood() {
        for (line, order) in [
            ("kill z2", Order::Kill(z(2))),
            ("  kill   n2 \r", Order::Kill(z(2))),
            ("stop z1", Order::Stop(z(1))),
            ("start\tz3", Order::Start(z(3))),
            ("partition z1|z2,z3", Order::Partition(vec![vec![z(1)], vec![z(2), z(3)]])),
            ("partition z3 | n1 , z2", Order::Partition(vec![vec![z(3)], vec![z(1), z(2)]])),
            ("partition z1|z2|z3", Order::Partition(vec![vec![z(1)], vec![z(2)], vec![z(3)]])),
            ("cut z1 z2", Order::Cut { from: z(1), to: z(2) }),
            ("heal", Order::Heal),
            ("nodes", Order::Nodes),
            ("services", Order::Services),
            ("help", Order::Help),
            ("quit", Order::Quit),
        ] {
            assert_eq!(parse(line, 3), Ok(Some(order)), "{line}");
        }
        assert_eq!(parse(" \t", 3), Ok(None));
    }

    #[test]
    fn wrong_input_is_told_what_would_be_right() {
        for (line, expected) in [
            ("explode", "there is no command \"explode\"; commands: kill, stop, start"),
            ("Kill z2", "there is no command \"Kill\""),
            ("kill", "kill takes one node, for example: kill z2"),
            ("kill z1 z2", "kill takes one node"),
            ("kill z4", "there is no \"z4\"; nodes go by their zones, z1 to z3"),
            ("start web", "there is no \"web\""),
            ("partition", "partition takes two groups or more"),
            ("partition z1", "partition takes two groups or more"),
            ("partition z1|", "partition takes two groups or more"),
            ("partition z1|z2,z1", "z1 stands in two places"),
            ("partition z1|z7", "there is no \"z7\""),
            ("cut z1", "cut takes two nodes"),
            ("cut z1 n1", "cannot be cut off from itself"),
            ("heal z2", "heal takes nothing else; \"z2\" is too much"),
            ("quit now", "quit takes nothing else"),
        ] {
            let error = parse(line, 3).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_command_with_an_example_that_is_understood() {
        for line in HELP.lines() {
            let example = line.split("  ").next().unwrap_or_default();
            assert!(matches!(parse(example, 3), Ok(Some(_))), "{example}");
        }
        let names: Vec<_> = HELP.lines().filter_map(|l| l.split_whitespace().next()).collect();
        for name in COMMANDS.trim_start_matches("commands: ").split(", ") {
            assert!(names.contains(&name), "{name}");
        }
    }
}
