//! The memory of persistence templates: taken by control, before the tables are published that need
//! it, so that no worker allocates for them. A box without persistence never takes it.

use crate::tables::Desired;
use dataplane::service::Persistence;
use dataplane::template::Templates;
use std::sync::Arc;

/// The templates, and how many connections they may be of.
#[derive(Debug)]
pub(super) struct TemplateMemory {
    pub(super) templates: Arc<Templates>,
    pub(super) workers: usize,
    /// Of each worker, both families.
    pub(super) connections: usize,
}

impl TemplateMemory {
    /// Takes what these tables need, if it was not taken before. May take a moment.
    pub(super) fn prepare(&self, desired: &Desired) {
        let services = desired.services.iter();
        let persistent: Vec<Persistence> = services.filter_map(|it| it.persistence).collect();
        if persistent.is_empty() {
            return;
        }
        self.templates.reserve();
        if persistent.iter().any(|it| it.engine.is_some()) {
            self.templates.reserve_calls(self.workers, self.connections);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::DesiredService;
    use dataplane::address::Protocol;
    use dataplane::service::{Engine, ServiceKey};

    #[test]
    fn memory_is_taken_for_the_services_that_need_it() {
        let memory = TemplateMemory {
            templates: Arc::new(Templates::new(1000)),
            workers: 2,
            connections: 10,
        };
        let mut desired = Desired::default();
        let key = ServiceKey::new(Protocol::Udp, "10.0.1.50".parse().unwrap(), 5060);
        desired.services.push(DesiredService::new(key, "sip"));
        memory.prepare(&desired);
        assert!(!memory.templates.is_reserved());
        desired.services[0].persistence = Some(Persistence::new(60_000));
        memory.prepare(&desired);
        assert!(memory.templates.is_reserved());
        assert!(memory.templates.take_calls().is_none());
        desired.services[0].persistence = Some(Persistence {
            engine: Some(Engine::Sip),
            ..Persistence::new(60_000)
        });
        for _ in 0..2 {
            memory.prepare(&desired);
        }
        let taken: Vec<_> = std::iter::from_fn(|| memory.templates.take_calls()).collect();
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].capacity(), 10);
    }
}
