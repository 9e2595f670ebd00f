//! Which of its routes a router has asked for.

use crate::action::Action;
use crate::settings::{RouterSettings, VirtualRoute};
use std::collections::VecDeque;

/// The routes that were asked for and not given back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Vec<VirtualRoute>);

impl Routes {
    /// Gives those back that are not wanted any more and asks for those that are missing. To be called when the addresses
    /// are in place, by which gateways may be reached.
    pub(crate) fn follow(&mut self, settings: &RouterSettings, out: &mut VecDeque<Action>) {
        self.prune(settings, out);
        for route in &settings.routes {
            if !self.0.contains(route) {
                self.0.push(route.clone());
                out.push_back(Action::AddRoute {
                    router: settings.name.clone(),
                    route: route.clone(),
                });
            }
        }
    }

    /// Gives those back that are not wanted any more.
    pub(crate) fn prune(&mut self, settings: &RouterSettings, out: &mut VecDeque<Action>) {
        self.give_back(settings, |route| !settings.routes.contains(route), out);
    }

    /// Gives all back, before the addresses go.
    pub(crate) fn clear(&mut self, settings: &RouterSettings, out: &mut VecDeque<Action>) {
        self.give_back(settings, |_| true, out);
    }

    fn give_back(
        &mut self,
        settings: &RouterSettings,
        mut unwanted: impl FnMut(&VirtualRoute) -> bool,
        out: &mut VecDeque<Action>,
    ) {
        for route in self.0.extract_if(.., |route| unwanted(route)) {
            out.push_back(Action::RemoveRoute {
                router: settings.name.clone(),
                route,
            });
        }
    }

    pub(crate) fn all(&self) -> &[VirtualRoute] {
        &self.0
    }
}
