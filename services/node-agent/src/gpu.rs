//! NVIDIA accelerators: the only place that knows NVML. A host without any is
//! the usual case of the same type.

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use orchion_contract::node::Gpu;

/// The accelerators of this host. Boxed, because the library is a table of
/// hundreds of functions that would be copied with every future it is in.
pub(crate) struct Gpus(Option<Box<Nvml>>);

impl Gpus {
    /// Looks for a driver.
    #[must_use]
    pub(crate) fn find() -> Self {
        match Nvml::init() {
            Ok(nvml) => Self(Some(Box::new(nvml))),
            Err(error) => {
                tracing::info!("no NVIDIA GPU is used: {error}");
                Self(None)
            }
        }
    }

    /// Every accelerator as it is now.
    #[must_use]
    pub(crate) fn read(&self) -> Vec<Gpu> {
        let Some(nvml) = &self.0 else {
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
