//! Bytes as a row of dice: what to build next, until they are used up. Then every throw is 0, so that whatever is built ends.

use wellspring::value::{Json, Number};

#[derive(Clone, Debug)]
pub struct Dice<'a>(pub &'a [u8]);

impl Dice<'_> {
    pub fn throw(&mut self) -> u8 {
        match self.0 {
            [] => 0,
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
        }
    }

    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    /// A document of few different parts, so that much of it is alike.
    pub fn json(&mut self, depth: usize) -> Json {
        let throw = self.throw();
        let size = usize::from(throw >> 4);
        match throw & 15 {
            0 => Json::Null,
            1 => Json::Bool(size % 2 == 0),
            2..=4 => Json::Number(Number::from(i64::from(throw >> 4) - 3)),
            5 => number(["1", "1.0", "10e-1", "-0", "0.1", "1E2", "100", "2.50"][size % 8]),
            6 | 7 => Json::String(self.name().into()),
            8..=11 if depth > 0 => Json::Array((0..size).map(|_| self.json(depth - 1)).collect()),
            12..=15 if depth > 0 => {
                let member = |_| (self.name().into(), self.json(depth - 1));
                Json::Object((0..size).map(member).collect())
            }
            _ => Json::Bool(true),
        }
    }

    /// A reading that came after `json`: here and there something else, moved, gone or new.
    pub fn edited(&mut self, json: &Json, depth: usize) -> Json {
        if self.is_used_up() {
            return json.clone();
        }
        match (json, self.throw() % 8) {
            (_, 0) => self.json(depth.min(2)),
            (Json::Array(elements), edit) => {
                let mut edited: Vec<Json> = elements
                    .iter()
                    .map(|element| match edit {
                        1..=3 => element.clone(),
                        _ => self.edited(element, depth.saturating_sub(1)),
                    })
                    .collect();
                let (from, to) = (usize::from(self.throw()), usize::from(self.throw()));
                match edit {
                    1 if !edited.is_empty() => drop(edited.remove(from % edited.len())),
                    2 => edited.insert(to % (edited.len() + 1), self.json(depth.min(1))),
                    3 if !edited.is_empty() => {
                        let element = edited.remove(from % edited.len());
                        edited.insert(to % (edited.len() + 1), element);
                    }
                    4 => edited.reverse(),
                    _ => {}
                }
                Json::Array(edited)
            }
            (Json::Object(members), edit) => {
                let mut edited = members.clone();
                for member in edited.values_mut() {
                    *member = self.edited(member, depth.saturating_sub(1));
                }
                match edit {
                    1 | 2 => drop(edited.insert(self.name().into(), self.json(depth.min(1)))),
                    3 if !edited.is_empty() => {
                        let at = usize::from(self.throw()) % edited.len();
                        edited.shift_remove_index(at);
                    }
                    4 => edited.reverse(),
                    _ => {}
                }
                Json::Object(edited)
            }
            (scalar, 1..=4) => scalar.clone(),
            _ => self.json(0),
        }
    }

    fn name(&mut self) -> &'static str {
        const NAMES: [&str; 16] = [
            "id",
            "a",
            "b",
            "",
            "/",
            "~",
            "~1",
            "0",
            "-",
            "a/b",
            "é",
            "\n",
            "name",
            "\"",
            "\\",
            "\u{1F600}",
        ];
        NAMES[usize::from(self.throw() % 16)]
    }
}

fn number(text: &str) -> Json {
    Json::Number(Number::parse(text).expect("a number"))
}
