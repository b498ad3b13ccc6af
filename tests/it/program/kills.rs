use std::{
    thread,
    time::{Duration, SystemTime},
};

use tappaas_core::Digest;

use super::fire::{Action, Fire, State};

/// So many steps of a deploy are tried, spread over it, if nobody asks for others.
const STEPS: u64 = 5;
/// So many random moments are tried if nobody asks for others.
const MOMENTS: u64 = 5;
/// The latest random moments at which a server is killed: after a command was begun, and after its own start.
const KILL_MAX_MS: u64 = 2500;
const START_KILL_MAX_MS: u64 = 1000;

/// `TAPPAAS_STEPS=3/20` asks for steps 3, 23, 43 and so on.
#[test]
fn a_server_killed_at_any_step_of_a_deploy_is_succeeded_by_one_that_goes_on() {
    let mut fire = Fire::begun(&[USUAL]);
    let all = fire.steps();
    let (first, stride) = asked("TAPPAAS_STEPS").unwrap_or_else(|| {
        let stride = (all / STEPS).max(1);
        (1 + seed() % stride, stride)
    });
    println!("{all} steps of a deploy; replay with TAPPAAS_STEPS={first}/{stride}");
    for step in (first..).step_by(usize::try_from(stride).unwrap()) {
        let mut tried = true;
        fire.round(Action::Deploy, |platform, steps| {
            let taken = steps.wait_for(step);
            platform.kill_server();
            tried = taken.is_ok();
            taken.unwrap_or_else(|count| format!("after all {count} steps"))
        });
        if !tried {
            break;
        }
    }
    fire.end();
}

/// `TAPPAAS_MOMENTS=7/100` asks for a hundred moments, drawn from the number 7.
#[test]
fn a_server_killed_at_any_moment_is_succeeded_by_one_that_goes_on() {
    let others = [1, 3].map(|instances| State {
        instances,
        ..WITH_GUEST
    });
    let mut fire = Fire::begun(&[USUAL, others[0], others[1], WITH_GUEST]);
    let (seed, rounds) = asked("TAPPAAS_MOMENTS").unwrap_or_else(|| (seed() % 1000, MOMENTS));
    println!("replay with TAPPAAS_MOMENTS={seed}/{rounds}");
    for round in 0..rounds {
        let mut draw = Draw(Digest::of(format!("{seed} {round}")));
        let action = match draw.below(6) {
            0 => Action::Scale(1),
            1 => Action::Scale(3),
            2 => Action::SetVariable,
            3 => Action::RollBack,
            4 => Action::Destroy,
            _ => Action::Deploy,
        };
        fire.round(action, |platform, _| {
            // Rather early: most commands are done long before the latest moment.
            let latest = 1 + draw.below(KILL_MAX_MS);
            let moment = draw.below(latest);
            thread::sleep(Duration::from_millis(moment));
            platform.kill_server();
            let mut what = format!("round {round}, {moment} ms after {action:?} was begun");
            // One round in three its successor does not live long, either.
            if draw.below(3) == 0 {
                let moment = draw.below(START_KILL_MAX_MS);
                platform.serve_for(Duration::from_millis(moment));
                what += &format!(", and {moment} ms after its start");
            }
            what
        });
    }
    fire.end();
}

const USUAL: State = State {
    instances: 2,
    guest: false,
};
const WITH_GUEST: State = State {
    guest: true,
    ..USUAL
};

/// A number that differs from run to run.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::from(now.unwrap().subsec_nanos())
}

/// Two numbers that somebody asks for.
fn asked(variable: &str) -> Option<(u64, u64)> {
    let asked = std::env::var(variable).ok()?;
    let (one, other) = asked
        .split_once('/')
        .expect("two numbers with a slash between");
    Some((one.parse().unwrap(), other.parse().unwrap()))
}

/// Numbers that look random, and are the same for the same seed.
#[derive(Debug)]
struct Draw(Digest);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        let number = u64::from_str_radix(&self.0.hex()[..12], 16).unwrap();
        self.0 = Digest::of(self.0.hex());
        number % end
    }
}
