use self::api::{AccessError, LocalKey};
use crate::observing::{Observed, message, observed};
use std::cell::{Cell, RefCell};

declare! {
    /// Documented.
    static CELL: Cell<u32> = Cell::new(1);
    pub static REF: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    pub(crate) static STRING: String = String::from("text")
}

fn key() -> &'static LocalKey<Cell<u32>> {
    &CELL
}

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: LocalKey<Cell<u8>>, LocalKey<std::rc::Rc<u8>>, AccessError);
    out.push(observed("debug", key()));
    out.push(observed("with", (STRING.with(|text| text.len()), STRING.try_with(|text| text.len()))));
    CELL.set(5);
    out.push(observed("cell", (CELL.get(), CELL.replace(7), CELL.take(), CELL.get())));
    REF.with_borrow_mut(|all| all.push(1));
    out.push(observed("ref", (REF.with_borrow(|all| all.len()), REF.replace(vec![2]), REF.take())));
    REF.set(vec![3]);
    out.push(observed("borrowed", message(|| REF.with_borrow(|_| REF.with_borrow_mut(|_| ())))));
    out.push(observed("borrowed mutably", message(|| REF.with_borrow_mut(|_| REF.with_borrow(|_| ())))));
    out
}
