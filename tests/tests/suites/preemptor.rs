//! The laws of `Preemptor` over this repository's backends.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use gvt_conformance::preemptor_laws;

preemptor_laws!(no_preempt, gvt_preempt_sigurg::NoPreempt, 23);
preemptor_laws!(cooperative, gvt_preempt_sigurg::Cooperative, 23);
preemptor_laws!(sigurg, gvt_preempt_sigurg::Sigurg, 23);
preemptor_laws!(checked_sigurg, gvt_decorators::Checked(gvt_preempt_sigurg::Sigurg), 23);
