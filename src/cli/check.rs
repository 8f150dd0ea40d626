//! `wellspring check`: every problem of every file at once.

use std::path::PathBuf;

use super::{CONFIG, OK, print};
use crate::config;

pub(super) fn check(files: &[PathBuf]) -> u8 {
    let mut code = OK;
    for file in files {
        match config::load(file) {
            Ok(_) => {
                print(&format!("{}: ok", file.display()));
            }
            Err(problems) => {
                eprint!("{problems}");
                code = CONFIG;
            }
        }
    }
    code
}
