//! Hosts that are told to run builds, good and bad ones, while programs end, hosts reboot and links are cut.

use super::*;

const TRIAL: Duration = Duration::from_secs(300);
const AT_ONCE: Duration = Duration::from_secs(75);

fn build(name: &str) -> Which {
    (name != "packaged").then(|| Digest::sha256(name.as_bytes()))
}

fn trial(name: &str, starts: u32) -> Record {
    Record { standing: Standing::Trial { build: build(name), starts }, ..Record::default() }
}

fn doubted(name: &str, doubts: u32) -> Record {
    let standing = Standing::Doubted { build: build(name), why: "got no answer".into() };
    Record { standing, doubts: (build(name), doubts), ..Record::default() }
}

#[test]
fn what_a_start_comes_to() {
    let check = |record: &Record, me: &str, launched: Option<&str>, next: &Record, launch: Launch| {
        let launched = launched.map(build);
        assert_eq!(
            record.launch(&build(me), launched.as_ref()),
            (next.clone(), launch),
            "{record:?} {me} {launched:?}"
        );
    };
    let run = |name: &str| Launch::Run(build(name));
    let settled = |name: &str| Record { chosen: build(name), ..Record::default() };
    check(&settled("packaged"), "packaged", None, &settled("packaged"), Launch::Stay);
    check(&settled("a"), "packaged", None, &settled("a"), run("a"));
    check(&settled("a"), "a", Some("a"), &settled("a"), Launch::Stay);
    // a build that does not know itself is not run over and over
    check(&settled("a"), "packaged", Some("a"), &settled("a"), Launch::Stay);
    for starts in 0..STARTS_MAX {
        check(&trial("a", starts), "packaged", None, &trial("a", starts + 1), run("a"));
        check(&trial("packaged", starts), "packaged", None, &trial("packaged", starts + 1), Launch::Stay);
    }
    // who was run and counted is not counted again
    check(&trial("a", 1), "a", Some("a"), &trial("a", 1), Launch::Stay);
    check(&trial("packaged", 2), "packaged", Some("packaged"), &trial("packaged", 2), Launch::Stay);
    let (next, launch) = trial("a", STARTS_MAX).launch(&None, None);
    assert_eq!((launch, next.chosen.clone()), (Launch::Stay, None));
    assert!(matches!(&next.standing, Standing::Doubted { build: of, .. } if *of == build("a")), "{next:?}");
    let of_a = Record { chosen: build("a"), ..trial("b", STARTS_MAX) };
    assert_eq!(of_a.launch(&None, None).1, run("a"), "the one before is a build, too");
    check(&doubted("a", 1), "packaged", None, &doubted("a", 1), Launch::Stay);
}

#[test]
fn what_an_answer_says() {
    let at_once = AT_ONCE;
    let late = AT_ONCE * 2;
    let good = Record { chosen: build("a"), ..trial("b", 1) }.answered(&build("b"), late, TRIAL);
    assert_eq!((good.chosen, good.previous, good.standing), (build("b"), build("a"), Standing::Settled));
    assert_eq!(trial("b", 1).answered(&None, at_once, TRIAL), trial("b", 1), "of the one before it says nothing");
    let refused = doubted("b", 1).answered(&None, at_once, TRIAL);
    assert_eq!(refused.refused.as_ref().map(|refused| &refused.sha256), Some(&build("b")));
    assert_eq!((&refused.standing, &refused.chosen), (&Standing::Settled, &None));
    // the link was cut: it may be tried again, but not for ever
    assert_eq!(doubted("b", 1).answered(&None, late, TRIAL).refused, None);
    assert_eq!(doubted("b", 1).answered(&None, late, TRIAL).doubts, (build("b"), 1));
    assert!(doubted("b", DOUBTS_MAX).answered(&None, late, TRIAL).refused.is_some());
    // what was refused is so until another one is assigned
    assert_eq!(refused.assigned(&build("b")), refused);
    assert_eq!(refused.assigned(&None).refused, None);
}

#[test]
fn a_build_that_is_not_there_is_as_if_it_had_never_been() {
    let chosen = Record { chosen: build("a"), ..Record::default() };
    assert_eq!(chosen.lost(&build("a")), Record::default());
    let tried = Record { chosen: build("a"), ..trial("b", 2) };
    assert_eq!(tried.lost(&build("b")), chosen);
    assert_eq!(tried.lost(&build("a")), trial("b", 2));
    assert_eq!(chosen.lost(&None), chosen, "there is nothing that could take its place");
}

/// How a build fares.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Good,
    /// Ends as soon as it is started.
    Ends,
    /// Runs and never gets an answer.
    Deaf,
}

struct Host {
    record: Record,
    kinds: [(Which, Kind); 4],
    me: Which,
    /// How long it has run, s.
    ran: u64,
    linked: bool,
    wanted: Which,
    /// Starts of builds since their last answer or since another one was assigned.
    starts: std::collections::BTreeMap<Which, u32>,
    dice: u64,
}

impl Host {
    fn below(&mut self, most: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % most
    }

    fn kind(&self, which: &Which) -> Kind {
        self.kinds.iter().find(|(known, _)| known == which).expect("a known build").1
    }

    /// A program starts, as its host or one before it in this process has it.
    fn start(&mut self, program: Which) {
        let (mut at, mut launched) = (program, None);
        let mut steps = 0;
        loop {
            let (next, launch) = self.record.launch(&at, launched.as_ref());
            self.record = next;
            let Launch::Run(which) = launch else { break };
            (at, launched) = (which.clone(), Some(which));
            steps += 1;
            assert!(steps < 3, "starts do not come to an end: {:?}", self.record);
        }
        (self.me, self.ran) = (at, 0);
        let me = self.me.clone();
        *self.starts.entry(me.clone()).or_default() += u32::from(self.record.on_trial(&me));
        assert!(self.starts[&me] <= STARTS_MAX * DOUBTS_MAX, "a build is started for ever: {:?}", self.record);
        if self.kind(&me) == Kind::Ends {
            assert!(self.record.on_trial(&me), "what ends at once is chosen");
            self.start(None);
        }
    }

    fn run(&mut self, seconds: u64) {
        self.ran += seconds;
        if self.linked && self.kind(&self.me) == Kind::Good {
            self.record = self.record.answered(&self.me, Duration::from_secs(self.ran), TRIAL);
            self.starts.remove(&self.me);
            self.record = self.record.assigned(&self.wanted);
            let refused = self.record.refused.as_ref().is_some_and(|refused| refused.sha256 == self.wanted);
            if self.record.standing == Standing::Settled && self.me != self.wanted && !refused {
                self.record = self.record.begin(self.wanted.clone(), None);
                self.start(self.me.clone());
            }
        } else if self.record.on_trial(&self.me) && self.ran >= TRIAL.as_secs() {
            self.record = self.record.overdue(&self.me, TRIAL);
            self.start(self.me.clone());
        }
    }
}

#[test]
fn good_builds_are_run_in_the_end_and_bad_ones_are_refused() {
    for seed in 1..=400 {
        let kinds = [("packaged", Kind::Good), ("a", Kind::Good), ("ends", Kind::Ends), ("deaf", Kind::Deaf)];
        let kinds = kinds.map(|(name, kind)| (build(name), kind));
        let mut host = Host {
            record: Record::default(),
            kinds: kinds.clone(),
            me: None,
            ran: 0,
            linked: true,
            wanted: None,
            starts: std::collections::BTreeMap::new(),
            dice: seed,
        };
        host.start(None);
        for _ in 0..200 {
            match host.below(12) {
                0 => host.start(None), // a reboot, or a crash
                1 => host.linked = !host.linked,
                2 => {
                    let at = usize::try_from(host.below(4)).expect("small");
                    // the controller assigns another one only to who can hear it
                    if host.linked && host.kind(&host.me) == Kind::Good && host.wanted != kinds[at].0 {
                        host.wanted = kinds[at].0.clone();
                        host.starts.clear();
                    }
                }
                _ => {
                    let seconds = [1, 20, 100, 400][usize::try_from(host.below(4)).expect("small")];
                    host.run(seconds);
                }
            }
            let chosen = host.kind(&host.record.chosen);
            assert!(chosen == Kind::Good, "seed {seed}: a bad build is chosen: {:?}", host.record);
        }
        host.linked = true;
        for _ in 0..100 {
            host.run(10);
        }
        let (wanted, record) = (host.wanted.clone(), &host.record);
        let refused = record.refused.as_ref().map(|refused| &refused.sha256);
        assert_eq!(record.standing, Standing::Settled, "seed {seed}");
        match host.kind(&wanted) {
            // it may have been refused after three cuts in a row, and never just so
            Kind::Good => assert!(host.me == wanted || refused == Some(&wanted), "seed {seed}: {record:?}"),
            _ => assert!(host.me != wanted && refused == Some(&wanted), "seed {seed}: {record:?}"),
        }
    }
}
