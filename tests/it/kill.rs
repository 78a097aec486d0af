//! The main job while its programs are killed with SIGKILL at random points: every message ends in exactly one answer or one visible
//! "uncertain", and no command runs twice. `ATOLL_SEED` repeats the points of an earlier run.

mod tally;

use std::time::Duration;

use atoll_tests::chance::{Chance, seed};
use atoll_tests::mesh::{Pipe, admit};
use atoll_tests::scene::{Heard, NODE, OWNER, Scene, Setting};
use atoll_tests::wait::{until, until_time};
use tally::Tally;

/// Kills of one mesh. More of them take longer and longer: a node whose links do not last pauses between its tries. So the meshes
/// are many, side by side.
const KILLS: usize = 5;

/// How long a job may take until its end, with everything that starts again in between.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest time from a point of a job to the kill.
const AFTER: Duration = Duration::from_millis(400);

/// What ends, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Gateway,
    Node,
    Both,
    /// The gateway, asked politely.
    Politely,
}

/// A point in the life of a job from which time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    Written,
    Asked,
    Shown,
    Pressed,
    Ran,
    Told,
    Answered,
}

const POINTS: [Point; 7] = [
    Point::Written,
    Point::Asked,
    Point::Shown,
    Point::Pressed,
    Point::Ran,
    Point::Told,
    Point::Answered,
];

#[tokio::test]
async fn fifty_kills_of_the_gateway_lose_nothing_and_repeat_nothing() {
    storm(Victim::Gateway, 10).await;
}

#[tokio::test]
async fn kills_of_the_node_leave_no_message_without_an_end() {
    storm(Victim::Node, 5).await;
}

#[tokio::test]
async fn kills_of_gateway_and_node_at_once_leave_no_message_without_an_end() {
    storm(Victim::Both, 5).await;
}

#[tokio::test]
async fn restarts_of_the_gateway_lose_nothing_and_repeat_nothing() {
    let tally = storm(Victim::Politely, 5).await;
    // Who asks politely gets more than no harm: everything goes on as if nothing had been.
    assert_eq!(tally.doubts(), 0, "{tally}");
}

/// Kills in so many scenes.
async fn storm(victim: Victim, scenes: usize) -> Tally {
    let seed = seed();
    println!("{victim:?}: {} times, ATOLL_SEED={seed}", scenes * KILLS);
    let storms = (0..scenes).map(|stream| {
        let chance = Chance::new(seed, u64::try_from(stream).expect("a few"));
        Storm::run(victim, chance, stream, Pipe::EACH[stream % Pipe::EACH.len()])
    });
    let mut tally = Tally::default();
    for part in futures_util::future::join_all(storms).await {
        tally.add(&part);
    }
    println!("{victim:?}: {tally}");
    tally.check();
    assert_eq!(tally.jobs(), scenes * (KILLS + 1));
    tally
}

/// One scene under fire.
struct Storm {
    scene: Scene,
    /// Which scene it is, for what is printed; it decides the pipe too.
    stream: usize,
    /// The cards that were answered, by their messages: each once.
    pressed: Vec<i64>,
}

impl Storm {
    async fn run(victim: Victim, mut chance: Chance, stream: usize, pipe: Pipe) -> Tally {
        let scene = Setting::default().over(pipe).start().await;
        let pressed = Vec::new();
        let mut storm = Self { scene, stream, pressed };
        let mut names = Vec::new();
        for number in 0..KILLS {
            let name = format!("job-{number}");
            storm.kill_during(&name, victim, &mut chance).await;
            names.push(name);
        }
        // One more in peace, behind all others in their lane: nothing of before can come after it, and everything still works.
        storm.node_back().await;
        storm.scene.ask("peace");
        storm.see_through("peace").await;
        assert_eq!(storm.scene.answer("peace").await, "finished peace: it ran");
        names.push("peace".to_owned());
        until("every update to be confirmed", async || {
            (storm.scene.telegram.unconfirmed() == 0).then_some(())
        })
        .await;
        Tally::of(&storm.scene, &names)
    }

    async fn kill_during(&mut self, name: &str, victim: Victim, chance: &mut Chance) {
        let tail = chance.one_of(&["echo it ran", "sleep 0.3; echo it ran"]);
        let (point, after) = (chance.one_of(&POINTS), chance.below(AFTER));
        println!("scene {} {name}: {victim:?}, {after:?} after {point:?}", self.stream);
        // Nodes that are killed must be back first: a job that finds none says so, and there is nothing to kill it in.
        if matches!(victim, Victim::Node | Victim::Both) {
            self.node_back().await;
        }
        self.scene.write(&self.scene.job(name, tail));
        let mut pressed = std::mem::take(&mut self.pressed);
        tokio::select! {
            () = press_for_ever(&self.scene, name, &mut pressed) => {}
            () = reach(&self.scene, name, point, after) => {}
        }
        self.pressed = pressed;
        self.kill(victim).await;
        self.see_through(name).await;
    }

    async fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Gateway => self.scene.mesh.kill().await,
            Victim::Politely => self.scene.mesh.stop().await,
            Victim::Node => self.scene.node.kill().await,
            Victim::Both => {
                self.scene.node.kill().await;
                self.scene.mesh.kill().await;
            }
        }
        if victim != Victim::Node {
            self.scene.mesh.run().await;
        }
        if matches!(victim, Victim::Node | Victim::Both) {
            self.scene.node.run();
        }
    }

    /// Waits until the node is connected; between two tries it pauses for half a minute at most.
    async fn node_back(&self) {
        admit(&mut self.scene.mesh.operator().await, NODE, PATIENCE).await;
    }

    /// Answers what is asked about a job until it has ended.
    async fn see_through(&mut self, name: &str) {
        let (scene, pressed) = (&self.scene, &mut self.pressed);
        until_time(&format!("an end of {name}"), PATIENCE, async || {
            press(scene, name, pressed);
            tally::has_ended(scene, name).then_some(())
        })
        .await;
    }
}

/// Says yes to every question about a job that is shown and was not answered yet.
fn press(scene: &Scene, name: &str, pressed: &mut Vec<i64>) {
    for sent in scene.telegram.sent(OWNER) {
        if scene.asks_about(&sent, name) && !pressed.contains(&sent.message) {
            pressed.push(sent.message);
            scene.press(&scene.owner, &sent, "Allow once");
        }
    }
}

async fn press_for_ever(scene: &Scene, name: &str, pressed: &mut Vec<i64>) {
    loop {
        press(scene, name, pressed);
        let shown = || {
            scene
                .telegram
                .sent(OWNER)
                .iter()
                .any(|sent| scene.asks_about(sent, name) && !pressed.contains(&sent.message))
        };
        until_time("one more question", PATIENCE, async || shown().then_some(())).await;
    }
}

/// Waits for the point (or the end, when the job does not come so far), and then so long: this pause is what is tested.
async fn reach(scene: &Scene, name: &str, point: Point, after: Duration) {
    until_time(&format!("{name} to be {point:?}"), PATIENCE, async || {
        (is_at(scene, name, point) || tally::has_ended(scene, name)).then_some(())
    })
    .await;
    tokio::time::sleep(after).await;
}

fn is_at(scene: &Scene, name: &str, point: Point) -> bool {
    let mark = scene.mark(name).display().to_string();
    let any = |what: &dyn Fn(&atoll_tests::fake::telegram::Sent) -> bool| scene.telegram.sent(OWNER).iter().any(what);
    match point {
        Point::Written => true,
        Point::Asked => scene.heard(name).is_some(),
        // The card is answered as soon as it is seen, so it may have no buttons any more.
        Point::Shown => any(&|sent| sent.text.contains(&mark)),
        Point::Pressed => any(&|sent| sent.text.contains(&mark) && sent.edits > 0),
        Point::Ran => scene.runs(name) > 0,
        Point::Told => scene.heard(name) == Some(Heard::Told),
        Point::Answered => tally::has_ended(scene, name),
    }
}
