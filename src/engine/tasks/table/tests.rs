//! The books, alone.

use super::*;
use crate::engine::store::wheel::Wheel;

fn table() -> (Table, TimerId) {
    let mut table = Table::default();
    table.renumber(&[Runner::Child, Runner::Operation], |_| None);
    (table, Wheel::new(0).insert(1, 0_u8))
}

fn add(table: &mut Table, timer: TimerId, sched: u16, dir: u32, name: &[u8]) -> TaskId {
    let kind = EventKind::Create;
    let subject = Subject { node: NodeId(dir), name: name.into(), src_path: None, kind, is_dir: false };
    table.add(sched, false, subject, 0, |_| timer).unwrap()
}

#[test]
fn tasks_are_found_by_their_directory_alone() {
    let (mut table, timer) = table();
    let names: Vec<Vec<u8>> = (0..100_u8).map(|name| vec![name]).collect();
    let ids: Vec<TaskId> =
        (0..).zip(&names).map(|(at, name)| add(&mut table, timer, 0, at % 7, name)).collect();
    let expected = |dir: usize, without: &[usize]| -> Vec<TaskId> {
        let of = ids.iter().enumerate().filter(|(at, _)| at % 7 == dir && !without.contains(at));
        of.map(|(_, id)| *id).collect()
    };
    assert_eq!(table.select_in(&[NodeId(3)], |_| true), expected(3, &[]));
    assert_eq!(table.select_in(&[NodeId(9)], |_| true), []);
    // The first, the last and one in between leave.
    for at in [3, 94, 45] {
        table.remove(ids[at]).unwrap();
    }
    assert_eq!(table.select_in(&[NodeId(3)], |_| true), expected(3, &[3, 94, 45]));
    for id in expected(3, &[3, 94, 45]) {
        table.remove(id).unwrap();
    }
    assert_eq!(table.select_in(&[NodeId(3)], |_| true), []);
    assert_eq!(table.select_in(&[NodeId(4), NodeId(0)], |_| true).len(), 29);
    let moved = Subject { node: NodeId(8), ..table.get(ids[0]).unwrap().subject.clone() };
    table.set_subject(ids[0], moved).unwrap();
    assert_eq!(table.select_in(&[NodeId(8)], |_| true), [ids[0]]);
    assert_eq!(table.select_in(&[NodeId(0)], |_| true).len(), 14);
}

#[test]
fn ready_tasks_keep_their_order_over_all_schedulers() {
    let (mut table, timer) = table();
    let ids: Vec<TaskId> =
        (0..6_u8).map(|name| add(&mut table, timer, u16::from(name % 2), 0, &[name])).collect();
    for id in &ids {
        let rank = table.last_rank();
        table.set_state(*id, State::Ready(rank));
    }
    let rank = table.first_rank();
    table.set_state(ids[4], State::Ready(rank));
    assert_eq!(table.first_ready(|_, _| true), Some(ids[4]));
    assert_eq!(table.first_ready(|task, _| task.sched == 1), Some(ids[1]));
    for (running, expected) in [ids[4], ids[0], ids[1], ids[2], ids[3], ids[5]].into_iter().enumerate() {
        assert_eq!((table.ready(), table.running()), (6 - running, running));
        let id = table.first_ready(|_, _| true).unwrap();
        assert_eq!(id, expected);
        table.set_state(id, State::Running);
    }
    assert_eq!(table.first_ready(|_, _| true), None);
    assert_eq!((table.running_by(Runner::Child), table.running_by(Runner::Operation)), (3, 3));
}
