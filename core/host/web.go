package host

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/reflect/protoreflect"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/core/host/callers"
	"github.com/conclavehq/conclave/core/host/edge"
	"github.com/conclavehq/conclave/core/host/openapi"
	"github.com/conclavehq/conclave/core/host/page"
	"github.com/conclavehq/conclave/internal/router"
)

var errStarting = errors.New("the host is starting, or stopping")

// read is what a caller needs for what is served beside calls. Health is everybody's,
// and so are descriptions, as they are over reflection.
const read = recipev1.Permission_PERMISSION_READ

// web returns what answers HTTP: calls, and beside them the pages and documents.
func (h *Host) web(who *callers.Book) (http.Handler, error) {
	mux := http.NewServeMux()
	ui, err := page.New(page.Options{Name: h.cfg.Name, Version: h.cfg.Version, Services: h.pageServices, Log: h.log})
	if err != nil {
		return nil, err
	}
	own := []handler{
		{"GET /livez", healthz(h.liveChecks)},
		{"GET /readyz", healthz(h.readyChecks)},
		{"GET /metrics", who.Wrap(read, promhttp.HandlerFor(prometheus.Gatherers{h.parts.metrics, prometheus.DefaultGatherer}, promhttp.HandlerOpts{}))},
		{"GET /openapi.json", http.HandlerFunc(h.openapi)},
		{page.Path, ui},
		{"GET /{$}", http.RedirectHandler(page.Path, http.StatusFound)},
	}
	for _, added := range h.opts.handlers {
		own = append(own, handler{added.pattern, who.Wrap(read, added.Handler)})
	}
	if err := routes(mux, own); err != nil {
		return nil, err
	}
	e, err := edge.New(edge.Options{Handler: h.parts.router.Handle, Codec: router.Codec(), Next: mux,
		Serving: h.parts.ready.Load, MaxRequest: h.cfg.Limits.RequestBytes, Log: h.log})
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

func (h *Host) openapi(w http.ResponseWriter, _ *http.Request) {
	doc, err := openapi.Document(h.Services(), h.cfg.Version)
	if err != nil {
		h.log.Error("openapi document", "error", err)
		http.Error(w, "the document could not be made; the host's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc) // a caller that has gone needs no answer
}

// pageServices is what the page shows: the recipes' services, then the host's own.
func (h *Host) pageServices() []page.Service {
	byOwner := make(map[string]*hostv1.Recipe)
	for _, r := range h.recipeList() {
		byOwner[r.GetName()] = r
	}
	var recipes, own []page.Service
	for _, s := range h.parts.router.Services() {
		if r := byOwner[s.Owner]; r != nil {
			recipes = append(recipes, page.Service{Recipe: r.GetName(), Version: r.GetVersion(), Summary: r.GetSummary(),
				State: stateName(r.GetState()), Descriptor: s.Descriptor})
		} else if s.Owner == ownName {
			own = append(own, page.Service{Recipe: ownName, Version: h.cfg.Version, Summary: "Sessions of callers, and the host itself",
				State: "ready", Descriptor: s.Descriptor})
		}
	}
	return append(recipes, own...)
}

func stateName(s hostv1.RecipeState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "RECIPE_STATE_"))
}

// Services returns the descriptors of the recipes' services and the host's own, in
// the order of their names. Health and reflection are gRPC's and not among them.
func (h *Host) Services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, s := range h.parts.router.Services() {
		if s.Owner != "" {
			all = append(all, s.Descriptor)
		}
	}
	return all
}
