//! The tree of directories.

use super::*;

fn path(tree: &Tree, node: NodeId, name: &[u8]) -> String {
    String::from_utf8(tree.path_of(node, name)).unwrap()
}

#[test]
fn paths_are_made_from_names() {
    let mut tree = Tree::new();
    assert_eq!(path(&tree, ROOT, b""), "/");
    assert_eq!(path(&tree, ROOT, b"f"), "/f");
    let a = tree.insert(ROOT, b"a").unwrap();
    let b = tree.insert(a, b"bb").unwrap();
    assert_eq!(path(&tree, b, b""), "/a/bb");
    assert_eq!(path(&tree, b, b"f"), "/a/bb/f");
    assert_eq!([ROOT, a, b].map(|node| tree.path_len(node)), [1, 2, 5]);
    assert_eq!(tree.child(a, b"bb"), Some(b));
    assert_eq!(tree.child(a, b"b"), None);
}

#[test]
fn a_rename_moves_all_below_and_frees_nothing() {
    let mut tree = Tree::new();
    let a = tree.insert(ROOT, b"a").unwrap();
    let b = tree.insert(a, b"b").unwrap();
    let c = tree.insert(b, b"c").unwrap();
    tree.bind(c, Wd(3));
    tree.depart(b);
    assert_eq!(tree.in_transit(c), Some(b));
    assert_eq!(tree.child(a, b"b"), None);
    assert!(tree.arrive(b, ROOT, b"new"));
    assert_eq!(path(&tree, c, b"f"), "/new/c/f");
    assert_eq!(tree.in_transit(c), None);
    assert_eq!(tree.nodes_of(Wd(3)).iter().collect::<Vec<_>>(), [c]);
}

#[test]
fn a_pinned_node_outlives_its_directory_and_keeps_its_path() {
    let mut tree = Tree::new();
    let a = tree.insert(ROOT, b"a").unwrap();
    let b = tree.insert(a, b"b").unwrap();
    tree.pin(b);
    tree.detach(b);
    tree.detach(a);
    assert_eq!(tree.child(ROOT, b"a"), None);
    let again = tree.insert(ROOT, b"a").unwrap();
    assert_ne!(again, a);
    assert_eq!(path(&tree, b, b""), "/a/b");
    tree.unpin(b);
    let reused = [tree.insert(ROOT, b"x").unwrap(), tree.insert(ROOT, b"y").unwrap()];
    assert!(reused.contains(&a) && reused.contains(&b), "both nodes were freed");
}

#[test]
fn each_pin_is_taken_away_once() {
    let mut tree = Tree::new();
    let a = tree.insert(ROOT, b"a").unwrap();
    for _ in 0..3 {
        tree.pin(a);
    }
    tree.detach(a);
    for pins in (0..3).rev() {
        assert!(tree.is_pinned(a));
        assert_eq!(path(&tree, a, b""), "/a");
        tree.unpin(a);
        assert_eq!(tree.is_pinned(a), pins > 0);
    }
    assert_eq!(tree.insert(ROOT, b"b"), Some(a), "the node was freed");
    assert!(tree.more_pins.is_empty());
}

#[test]
fn one_watch_may_stand_for_several_nodes() {
    let mut tree = Tree::new();
    let a = tree.insert(ROOT, b"a").unwrap();
    let b = tree.insert(ROOT, b"b").unwrap();
    tree.bind(a, Wd(1));
    tree.bind(b, Wd(1));
    let mut found: Vec<_> = tree.nodes_of(Wd(1)).iter().collect();
    found.sort();
    assert_eq!(found, [a, b]);
    tree.unbind(a);
    assert_eq!(tree.nodes_of(Wd(1)).iter().collect::<Vec<_>>(), [b]);
    assert_eq!(tree.watched(), 1);
}

#[test]
fn churn_does_not_grow_the_tree() {
    let mut tree = Tree::new();
    for round in 0..10_000 {
        let a = tree.insert(ROOT, format!("directory {round}").as_bytes()).unwrap();
        tree.bind(a, Wd(round));
        tree.detach(a);
        tree.unbind(a);
    }
    assert_eq!(tree.nodes.len(), 2);
    assert_eq!(tree.watched(), 0);
}
