//! Lines in which a process tells what it asks and what it is answered, before somebody kills it.

use crate::{
    Outcome,
    history::{Answer, Ask, Condition, Line, State, Version},
};

pub(crate) fn asked(number: u64, ask: &Ask) -> String {
    let words = match ask {
        Ask::Get(key) => format!("get {key}"),
        Ask::List => "list".to_owned(),
        Ask::Put(key, id, condition) => format!("put {key} {id} {}", written(*condition)),
        Ask::Delete(key, condition) => format!("delete {key} {}", written(*condition)),
    };
    format!("asked {number} {words}")
}

pub(crate) fn answered(number: u64, answer: &Answer) -> String {
    let words = match answer {
        Answer::Nothing => "nothing".to_owned(),
        Answer::Found(revision, id) => format!("found {revision} {id}"),
        Answer::Listed(revision, state) => {
            let each = state
                .iter()
                .map(|(key, (revision, id))| format!(" {key} {revision} {id}"));
            format!("listed {revision}{}", each.collect::<String>())
        }
        Answer::Written(revision) => format!("written {revision}"),
        Answer::Refused => "refused".to_owned(),
    };
    format!("answered {number} {words}")
}

pub(crate) fn seen(key: &str, (revision, id): Version) -> String {
    let id = id.map_or_else(|| "gone".to_owned(), |id| id.to_string());
    format!("seen {key} {revision} {id}")
}

pub(crate) fn read(line: &str) -> Outcome<Line> {
    let words: Vec<_> = line.split(' ').collect();
    let read = match words[..] {
        ["asked", number, ref ask @ ..] => Line::Asked(number.parse()?, read_ask(ask)?),
        ["answered", number, ref answer @ ..] => {
            Line::Answered(number.parse()?, read_answer(answer)?)
        }
        ["seen", key, revision, "gone"] => Line::Seen(key.to_owned(), (revision.parse()?, None)),
        ["seen", key, revision, id] => {
            Line::Seen(key.to_owned(), (revision.parse()?, Some(id.parse()?)))
        }
        _ => return Err(format!("`{line}` is not part of a history").into()),
    };
    Ok(read)
}

fn read_ask(words: &[&str]) -> Outcome<Ask> {
    Ok(match *words {
        ["get", key] => Ask::Get(key.to_owned()),
        ["list"] => Ask::List,
        ["put", key, id, condition] => {
            Ask::Put(key.to_owned(), id.parse()?, read_condition(condition)?)
        }
        ["delete", key, condition] => Ask::Delete(key.to_owned(), read_condition(condition)?),
        _ => return Err(format!("{words:?} is no request").into()),
    })
}

fn read_answer(words: &[&str]) -> Outcome<Answer> {
    Ok(match words {
        ["nothing"] => Answer::Nothing,
        ["refused"] => Answer::Refused,
        ["found", revision, id] => Answer::Found(revision.parse()?, id.parse()?),
        ["written", revision] => Answer::Written(revision.parse()?),
        ["listed", revision, things @ ..] => {
            let mut state = State::new();
            for thing in things.chunks_exact(3) {
                state.insert(thing[0].to_owned(), (thing[1].parse()?, thing[2].parse()?));
            }
            Answer::Listed(revision.parse()?, state)
        }
        _ => return Err(format!("{words:?} is no answer").into()),
    })
}

fn written(condition: Condition) -> String {
    match condition {
        Condition::Absent => "absent".to_owned(),
        Condition::Present => "present".to_owned(),
        Condition::Revision(revision) => revision.to_string(),
    }
}

fn read_condition(word: &str) -> Outcome<Condition> {
    Ok(match word {
        "absent" => Condition::Absent,
        "present" => Condition::Present,
        revision => Condition::Revision(revision.parse()?),
    })
}
