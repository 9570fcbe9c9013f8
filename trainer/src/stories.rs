//! Small stories and questions about them, after the tasks of bAbI (Weston et al. 2015): where somebody is (one fact),
//! where a thing is (two facts), yes or no, and counting. They are made here from a seed; nothing is taken from bAbI.

use crate::random::Random;
use serde::{Deserialize, Serialize};

/// How many stories, and how long.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stories {
    /// Number of stories, equal ones included.
    pub count: usize,
    /// Most sentences of a story; the least is two.
    pub sentences: usize,
    /// Decides which.
    pub seed: u64,
}

const PEOPLE: [&str; 4] = ["Mary", "John", "Sandra", "Daniel"];
const PLACES: [&str; 6] = [
    "garden", "kitchen", "office", "bathroom", "bedroom", "hallway",
];
const THINGS: [&str; 4] = ["apple", "football", "milk", "book"];
const GO: [&str; 4] = ["went to", "moved to", "travelled to", "journeyed to"];
const TAKE: [&str; 3] = ["took", "grabbed", "picked up"];
const DROP: [&str; 3] = ["dropped", "put down", "left"];
const NUMBERS: [&str; 5] = ["none", "one", "two", "three", "four"];

/// Where a thing is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thing {
    Unknown,
    With(usize),
    At(usize),
}

struct World {
    people: [Option<usize>; PEOPLE.len()],
    things: [Thing; THINGS.len()],
}

impl Stories {
    /// The question and the story behind it, and the answer. A question about a thing needs two facts or three; all
    /// kinds of questions are as frequent.
    pub fn examples(&self) -> Vec<(String, String)> {
        let mut random = Random::new(self.seed);
        let mut out = Vec::new();
        while out.len() < self.count {
            let kind = out.len() % 4;
            let sentences = 2 + random.below(self.sentences.saturating_sub(1).max(1));
            let mut world = World {
                people: [None; PEOPLE.len()],
                things: [Thing::Unknown; THINGS.len()],
            };
            let mut story = Vec::new();
            while story.len() < sentences {
                story.extend(world.happens(&mut random));
            }
            if let Some((question, answer)) = world.ask(kind, &mut random) {
                out.push((format!("{question} {}", story.join(" ")), answer));
            }
        }
        out
    }
}

fn pick<'a>(words: &[&'a str], random: &mut Random) -> &'a str {
    words[random.below(words.len())]
}

impl World {
    /// Something that can happen now, as a sentence.
    fn happens(&mut self, random: &mut Random) -> Option<String> {
        let person = random.below(PEOPLE.len());
        let name = PEOPLE[person];
        let place = self.people[person];
        match (random.below(3), place) {
            (0, Some(place)) => {
                let thing = random.below(THINGS.len());
                let here = match self.things[thing] {
                    Thing::Unknown => true,
                    Thing::At(at) => at == place,
                    Thing::With(_) => false,
                };
                if !here {
                    return None;
                }
                self.things[thing] = Thing::With(person);
                Some(format!(
                    "{name} {} the {}.",
                    pick(&TAKE, random),
                    THINGS[thing]
                ))
            }
            (1, Some(place)) => {
                let held =
                    (0..THINGS.len()).filter(|thing| self.things[*thing] == Thing::With(person));
                let held: Vec<usize> = held.collect();
                if held.is_empty() {
                    return None;
                }
                let thing = held[random.below(held.len())];
                self.things[thing] = Thing::At(place);
                Some(format!(
                    "{name} {} the {}.",
                    pick(&DROP, random),
                    THINGS[thing]
                ))
            }
            _ => {
                let to = random.below(PLACES.len());
                if place == Some(to) {
                    return None;
                }
                self.people[person] = Some(to);
                Some(format!("{name} {} the {}.", pick(&GO, random), PLACES[to]))
            }
        }
    }

    /// A question of that kind, if there is one, and its answer.
    fn ask(&self, kind: usize, random: &mut Random) -> Option<(String, String)> {
        let person = random.below(PEOPLE.len());
        let name = PEOPLE[person];
        match kind {
            0 => {
                let place = PLACES[self.people[person]?];
                Some((format!("Where is {name}?"), place.to_owned()))
            }
            1 => {
                let thing = random.below(THINGS.len());
                let place = match self.things[thing] {
                    Thing::Unknown => return None,
                    Thing::With(person) => self.people[person]?,
                    Thing::At(place) => place,
                };
                Some((
                    format!("Where is the {}?", THINGS[thing]),
                    PLACES[place].to_owned(),
                ))
            }
            2 => {
                let place = self.people[person]?;
                let asked = match random.below(2) {
                    0 => place,
                    _ => random.below(PLACES.len()),
                };
                let answer = if asked == place { "yes" } else { "no" };
                Some((
                    format!("Is {name} in the {}?", PLACES[asked]),
                    answer.to_owned(),
                ))
            }
            _ => {
                self.people[person]?;
                let held = self
                    .things
                    .iter()
                    .filter(|thing| **thing == Thing::With(person));
                let number = NUMBERS[held.count()];
                Some((
                    format!("How many things is {name} carrying?"),
                    number.to_owned(),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers by reading the sentences again.
    fn answer(text: &str) -> String {
        let (question, story) = text.split_once('?').expect("a question");
        let place = |words: &[&str]| words.last().expect("a word").trim_matches('.').to_owned();
        let mut people = std::collections::HashMap::new();
        let mut holders = std::collections::HashMap::new();
        let mut dropped = std::collections::HashMap::new();
        for sentence in story.split('.').filter(|s| !s.trim().is_empty()) {
            let words: Vec<&str> = sentence.split_whitespace().collect();
            let (name, last) = (words[0].to_owned(), place(&words));
            if words.contains(&"to") {
                people.insert(name, last);
            } else if ["took", "grabbed", "picked"].contains(&words[1]) {
                dropped.remove(&last);
                holders.insert(last, name);
            } else {
                holders.remove(&last);
                dropped.insert(last, people[&name].clone());
            }
        }
        let words: Vec<&str> = question.split_whitespace().collect();
        match words.as_slice() {
            ["Where", "is", "the", thing] => match holders.get(*thing) {
                Some(name) => people[name].clone(),
                None => dropped[*thing].clone(),
            },
            ["Where", "is", name] => people[*name].clone(),
            ["Is", name, .., asked] => match people[*name] == **asked {
                true => "yes".into(),
                false => "no".into(),
            },
            ["How", .., name, "carrying"] => {
                let held = holders.values().filter(|holder| holder == name).count();
                NUMBERS[held].into()
            }
            _ => panic!("{question}"),
        }
    }

    #[test]
    fn answers_follow_from_the_stories() {
        let stories = Stories {
            count: 2000,
            sentences: 12,
            seed: 3,
        };
        let all = stories.examples();
        assert_eq!(all.len(), 2000);
        for (text, want) in &all {
            assert_eq!(&answer(text), want, "{text}");
        }
        assert_eq!(all, stories.examples(), "the same seed");
    }
}
