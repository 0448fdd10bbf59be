//! Each way of breaking the contract, and lists that come late.

use super::*;
use crate::executor::Executor;

const SECOND: Duration = Duration::from_secs(1);

fn contents(breach: Option<Breach>, list_lag: Duration) -> (Contents, impl Fn(u32) -> Asked) {
    let contract = Contract { breach, list_lag };
    let by = Executor::new(0).group();
    let asked = move |seconds| Asked {
        by,
        now: SECOND * seconds,
    };
    (Contents::new(contract, 7), asked)
}

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn listed(contents: &mut Contents, asked: Asked) -> Vec<String> {
    let listed = contents.list(asked).into_iter();
    listed.map(|object| object.name).collect()
}

#[test]
fn a_store_that_keeps_its_contract_creates_a_name_once() {
    let (mut contents, at) = contents(None, Duration::ZERO);
    contents.create("a", &body("one"), at(1)).unwrap();
    let again = contents.create("a", &body("two"), at(1));
    assert_eq!(again, Err(StoreErrorKind::AlreadyExists));
    assert_eq!(contents.read("a", at(1)), Ok(body("one")));
    assert_eq!(listed(&mut contents, at(1)), ["a"]);
    contents.delete("a", at(1)).unwrap();
    assert_eq!(contents.delete("a", at(1)), Err(StoreErrorKind::NotFound));
    assert_eq!(contents.read("a", at(1)), Err(StoreErrorKind::NotFound));
    assert!(listed(&mut contents, at(1)).is_empty());
}

#[test]
fn a_store_that_overwrites_has_what_came_last() {
    let (mut contents, at) = contents(Some(Breach::Overwrites), Duration::ZERO);
    contents.create("a", &body("one"), at(1)).unwrap();
    contents.create("a", &body("two"), at(1)).unwrap();
    assert_eq!(contents.read("a", at(1)), Ok(body("two")));
}

#[test]
fn a_store_that_forgets_loses_some_of_what_it_has() {
    let (mut contents, at) = contents(Some(Breach::Forgets), Duration::ZERO);
    let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    for name in &names {
        contents.create(name, &body("x"), at(1)).unwrap();
    }
    let there = |contents: &mut Contents, seconds| {
        let names = names.iter();
        names
            .filter(|name| contents.read(name, at(seconds)).is_ok())
            .count()
    };
    assert_eq!(there(&mut contents, 1), 1000);
    let left = there(&mut contents, 9);
    assert!((900..1000).contains(&left), "{left}");
    assert_eq!(listed(&mut contents, at(9)).len(), left);
}

#[test]
fn a_store_that_hides_has_everything_in_the_end() {
    let (mut contents, at) = contents(Some(Breach::Hides), Duration::ZERO);
    contents.create("a", &body("one"), at(1)).unwrap();
    assert_eq!(contents.read("a", at(1)), Err(StoreErrorKind::NotFound));
    assert!(listed(&mut contents, at(1)).is_empty());
    let again = contents.create("a", &body("two"), at(1));
    assert_eq!(again, Err(StoreErrorKind::AlreadyExists));
    assert_eq!(contents.read("a", at(2)), Ok(body("one")));
    assert_eq!(listed(&mut contents, at(2)), ["a"]);
}

#[test]
fn a_list_that_comes_late_is_right_in_the_end() {
    let (mut contents, at) = contents(None, SECOND * 100);
    contents.create("a", &body("one"), at(1)).unwrap();
    assert_eq!(contents.read("a", at(1)), Ok(body("one")));
    assert!(listed(&mut contents, at(1)).is_empty());
    assert_eq!(listed(&mut contents, at(102)), ["a"]);
    contents.delete("a", at(102)).unwrap();
    assert_eq!(contents.read("a", at(102)), Err(StoreErrorKind::NotFound));
    assert_eq!(listed(&mut contents, at(102)), ["a"]);
    assert!(listed(&mut contents, at(203)).is_empty());
}
