// Package prometheus shows Prometheus finding what is registered with Conclave: by a
// file that "conclave service file-sd" keeps, and over HTTP from a host.
//
// A configuration has either of
//
//	scrape_configs:
//	  - job_name: services
//	    file_sd_configs:
//	      - files: [/etc/prometheus/targets/conclave.json]
//	    # or
//	    http_sd_configs:
//	      - url: http://127.0.0.1:2378/sd/prometheus?service=web
//	    relabel_configs:
//	      - source_labels: [__meta_conclave_service]
//	        target_label: service
//
// The test runs Prometheus' own discovery on both.
package prometheus
