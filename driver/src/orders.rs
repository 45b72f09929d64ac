//! What a task that keeps processes is told: to stop them, or to kill them at once.
//!
//! # Invariants
//!
//! - Orders only get sharper: run, stop, kill. Whoever stops does not take back a kill.
//! - A task whose givers are all gone is to kill, so that nothing runs for nobody.

use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    Stop { grace: Duration },
    Kill,
}

/// Gives orders to one task.
#[derive(Debug)]
pub(crate) struct Orders(watch::Sender<Order>);

/// The task's end.
#[derive(Clone, Debug)]
pub(crate) struct OrderReceiver(watch::Receiver<Order>);

/// Kills at once when it is given, also while there is a stop under way.
#[derive(Clone, Debug)]
pub struct KillOrder(watch::Sender<Order>);

pub(crate) fn channel() -> (Orders, OrderReceiver) {
    let (sender, receiver) = watch::channel(Order::Run);
    (Orders(sender), OrderReceiver(receiver))
}

impl Orders {
    pub(crate) fn stop(&self, grace: Duration) {
        self.0.send_if_modified(|order| {
            let is_running = *order == Order::Run;
            if is_running {
                *order = Order::Stop { grace };
            }
            is_running
        });
    }

    pub(crate) fn killer(&self) -> KillOrder {
        KillOrder(self.0.clone())
    }

    /// Waits until nobody hears orders any more: the task has ended, or has panicked.
    pub(crate) async fn unheard(&self) {
        self.0.closed().await;
    }
}

impl KillOrder {
    pub fn give(&self) {
        self.0.send_replace(Order::Kill);
    }
}

impl OrderReceiver {
    /// Waits until there shall be an end, and returns which. Cancel safe.
    pub(crate) async fn next(&mut self) -> Order {
        self.0.wait_for(|order| *order != Order::Run).await.map_or(Order::Kill, |order| *order)
    }

    /// Waits until there shall be an end at once. Cancel safe.
    pub(crate) async fn killed(&mut self) {
        // An error means that every giver is gone, which is a kill, too.
        let _ = self.0.wait_for(|order| *order == Order::Kill).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stop_does_not_take_back_a_kill() {
        let (orders, mut receiver) = channel();
        orders.killer().give();
        orders.stop(Duration::from_secs(1));
        assert_eq!(receiver.next().await, Order::Kill);
    }

    #[tokio::test]
    async fn task_without_anybody_to_order_it_is_to_kill() {
        let (orders, mut receiver) = channel();
        drop(orders);
        assert_eq!(receiver.next().await, Order::Kill);
        receiver.killed().await;
    }

    #[tokio::test]
    async fn end_of_the_task_is_noticed() {
        let (orders, receiver) = channel();
        drop(receiver);
        orders.unheard().await;
    }
}
