package host

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclavehq/conclave/core/host/edge"
	"github.com/conclavehq/conclave/internal/router"
)

var errStarting = errors.New("the host is starting, or stopping")

// web returns what answers HTTP: calls, and beside them the pages and documents.
func (h *Host) web() (http.Handler, error) {
	mux := http.NewServeMux()
	own := []handler{
		{"GET /livez", healthz(h.liveChecks)},
		{"GET /readyz", healthz(h.readyChecks)},
		{"GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{h.parts.metrics, prometheus.DefaultGatherer}, promhttp.HandlerOpts{})},
	}
	if err := routes(mux, append(own, h.opts.handlers...)); err != nil {
		return nil, err
	}
	e, err := edge.New(edge.Options{Handler: h.parts.router.Handle, Codec: router.Codec(), Next: mux,
		MaxRequest: h.cfg.Limits.RequestBytes, Log: h.log})
	if err != nil {
		return nil, err
	}
	h.parts.edge = e
	host, _, _ := net.SplitHostPort(h.cfg.API.Listen) // Check has seen it
	return edge.Protect(e, append([]string{host}, h.cfg.API.Names...)...), nil
}

// liveChecks are empty: a process that answers lives.
func (h *Host) liveChecks() []check { return nil }

func (h *Host) readyChecks() []check {
	return []check{
		{"host", func(context.Context) error {
			if !h.parts.ready.Load() {
				return errStarting
			}
			return nil
		}},
		{"etcd", func(ctx context.Context) error {
			if !h.parts.ready.Load() {
				return errStarting
			}
			// A read that a majority confirms. That etcd wants a login is an answer.
			if _, err := h.parts.store.client.Get(ctx, "conclave"); err != nil && !answered(err) {
				return errors.Join(ErrNoEtcd, err)
			}
			return nil
		}},
	}
}

// Services returns the descriptors of every service that the host serves, in the
// order of their names.
func (h *Host) Services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, s := range h.parts.router.Services() {
		all = append(all, s.Descriptor)
	}
	return all
}
