//! One file per promise. Each starts real processes and speaks the public API alone.

mod cold_start;
mod warm_hit;
mod hot_models;
mod instance_loss;
mod etcd_membership;
mod etcd_records;
mod etcd_access;
mod several_routers;
mod eviction;
mod bad_target_model;
mod bad_input;
mod bad_archive;
mod bad_store;
mod slow_load;
mod model_updates;
mod cache_setting;
mod launcher;
mod ending;
mod leaving;
mod joining;
mod gone_clients;
mod demo;
mod load;
mod update_endpoint;
mod control_plane;
mod trust;
