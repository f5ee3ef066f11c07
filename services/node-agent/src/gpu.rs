//! NVIDIA accelerators: the only place that knows NVML. A host without any is
//! the usual case of the same type.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use orchion_contract::node::Gpu;

/// The accelerators of this host.
#[derive(Clone, Copy)]
pub(crate) struct Gpus(Option<&'static Nvml>);

/// The driver's library, once for the whole process.
static NVML: LazyLock<Option<Nvml>> = LazyLock::new(|| match Nvml::init() {
    Ok(nvml) => Some(nvml),
    Err(error) => {
        tracing::info!("no NVIDIA GPU is used: {error}");
        None
    }
});

impl Gpus {
    /// Looks for a driver.
    #[must_use]
    pub(crate) fn find() -> Self {
        Self(NVML.as_ref())
    }

    /// Memory free on each accelerator, in bytes, by its index: cheap.
    #[must_use]
    pub(crate) fn memory_free(&self) -> BTreeMap<u32, u64> {
        let Some(nvml) = self.0 else {
            return BTreeMap::new();
        };
        let free = |index| {
            let memory = nvml.device_by_index(index).ok()?.memory_info().ok()?;
            Some((index, memory.free))
        };
        let count = nvml.device_count().unwrap_or_default();
        (0..count).filter_map(free).collect()
    }

    /// The accelerator of a host that has exactly one.
    #[must_use]
    pub(crate) fn only(&self) -> Option<u32> {
        let count = self.0?.device_count().ok()?;
        (count == 1).then_some(0)
    }

    /// Every accelerator as it is now.
    #[must_use]
    pub(crate) fn read(&self) -> Vec<Gpu> {
        let Some(nvml) = self.0 else {
            return Vec::new();
        };
        let driver = nvml.sys_driver_version().ok();
        let count = nvml.device_count().unwrap_or_default();
        let read = |index| match nvml
            .device_by_index(index)
            .and_then(|device| read(index, &device))
        {
            Ok(gpu) => Some(Gpu {
                driver: driver.clone(),
                ..gpu
            }),
            Err(error) => {
                tracing::info!(gpu.index = index, "GPU {index} cannot be read: {error}");
                None
            }
        };
        (0..count).filter_map(read).collect()
    }
}

fn read(index: u32, device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let memory = device.memory_info()?;
    let capability = device.cuda_compute_capability().ok();
    Ok(Gpu {
        index,
        name: device.name()?,
        uuid: device.uuid()?,
        memory_total_bytes: memory.total,
        memory_used_bytes: memory.used,
        memory_free_bytes: memory.free,
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
        power_w: device.power_usage().ok().map(|mw| f64::from(mw) / 1000.0),
        driver: None,
        compute_capability: capability.map(|cc| format!("{}.{}", cc.major, cc.minor)),
    })
}
