//! A run from above: limits, the gateway, the tables, the report.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::child::Leashed;
use crate::gateway::Gateway;
use crate::report::{self, Section};
use crate::scene::{self, Bench, Played};
use crate::{Outcome, machine};

/// Descriptors that are not clients: sockets of the upstream, pipes, logs, epolls.
const SPARE: usize = 200;

/// How long the command of `--append` may take.
const APPENDED: Duration = Duration::from_secs(300);

/// Measures and prints; whether everything was measured without faults.
pub(crate) fn run(options: &Options) -> Outcome<bool> {
    let begin = Instant::now();
    let most = machine::raise_descriptors()?.saturating_sub(SPARE).max(1);
    let capped = Options {
        clients: options.clients.min(most),
        capacity: options.capacity.min(most),
        pollers: options.pollers.min(most),
        ..options.clone()
    };
    let folder = Folder::make()?;
    let gateway = Gateway::find(&capped.gateway, folder.path())?;
    println!("# Wellspring benchmark\n");
    println!(
        "- {}, {}{}",
        machine::today(),
        gateway.version,
        if capped.quick {
            ", quick: not to be quoted"
        } else {
            ""
        }
    );
    println!(
        "- {}; loopback, {} thread(s) of clients",
        machine::describe(),
        capped.client_threads
    );
    if options.clients.max(options.capacity).max(options.pollers) > most {
        println!("- at most {most} clients: the hard limit of open files allows no more");
    }
    println!();

    let bench = Bench {
        options: &capped,
        gateway: &gateway,
        folder: folder.path(),
    };
    let mut sections = Vec::new();
    let mut fine = true;
    for table in &capped.only {
        eprintln!("{table:?}, {:.0} s so far", begin.elapsed().as_secs_f64());
        let since = Instant::now();
        match scene::play(*table, &bench) {
            Ok(Played::Measured(section)) => {
                print!("{section}");
                fine &= section.faults.is_empty();
                sections.push(section);
            }
            Ok(Played::LeftOut(why)) => println!("## {table:?}\n\nLeft out: {why}.\n"),
            Err(error) => {
                println!("## {table:?}\n\n**Not measured:** {error}\n");
                fine = false;
            }
        }
        println!("Took {:.0} s.\n", since.elapsed().as_secs_f64());
    }
    finish(&capped, folder.path(), &sections, &mut fine)?;
    eprintln!("done after {:.0} s", begin.elapsed().as_secs_f64());
    Ok(fine)
}

fn finish(options: &Options, folder: &Path, sections: &[Section], fine: &mut bool) -> Outcome<()> {
    if let Some(command) = &options.append {
        eprintln!("{command}");
        let arguments = ["-c".into(), OsString::from(command)];
        let mut child = Leashed::start(
            Path::new("/bin/sh"),
            &arguments,
            &folder.join("append.log"),
            false,
        )?;
        let status = child.finish(APPENDED)?;
        println!("{}\n", child.words().trim_end());
        *fine &= status.success();
    }
    if sections.iter().any(|section| !section.verdicts.is_empty()) {
        print!("{}", report::summary(sections, !options.quick));
    }
    Ok(())
}

/// A folder for configurations and logs, removed at the end.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("wellspring-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is small and in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
