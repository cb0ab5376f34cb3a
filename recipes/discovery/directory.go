package discovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	// idle is how long a service is followed that nobody asks for: longer than
	// Prometheus waits between two looks.
	idle = 3 * time.Minute
	// maxNamespaces bounds what strangers can make a host remember.
	maxNamespaces = 100
)

// A Directory is what a recipe in this process knows of services, for those who
// ask by other ways than calls. Give it to a [Recipe], and serve it: it is the
// HTTP service discovery of Prometheus, at /sd/prometheus?service=NAME, with
// &namespace=NAME and several services if need be; without a service it is all of
// the namespace.
//
// It answers with what is known, while etcd is away too, as long as it is certain
// that nothing has changed; after that with 503, and never with a list that is
// empty for that reason: Prometheus keeps what it had.
type Directory struct {
	mu        sync.Mutex
	c         *clientv3.Client // nil: the recipe does not run
	resolvers map[string]*discovery.Resolver
}

// open begins to answer.
func (d *Directory) open(c *clientv3.Client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.c, d.resolvers = c, make(map[string]*discovery.Resolver)
}

// close ends what open began.
func (d *Directory) close() {
	d.mu.Lock()
	resolvers := d.resolvers
	d.c, d.resolvers = nil, nil
	d.mu.Unlock()
	for _, r := range resolvers {
		_ = r.Close()
	}
}

func (d *Directory) resolver(namespace string) (*discovery.Resolver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.c == nil {
		return nil, recipe.Status(core.ErrSessionClosed)
	}
	r := d.resolvers[namespace]
	if r == nil {
		if len(d.resolvers) >= maxNamespaces {
			return nil, errors.New("too many namespaces are asked for")
		}
		r = discovery.NewResolver(d.c, discovery.WithNamespace(namespace), discovery.WithIdle(idle))
		d.resolvers[namespace] = r
	}
	return r, nil
}

// A TargetGroup is an instance as Prometheus reads it.
type TargetGroup struct {
	// Targets is its address, alone.
	Targets []string `json:"targets"`
	// Labels begin with __meta_conclave_.
	Labels map[string]string `json:"labels"`
}

// TargetGroups returns instances of a namespace as Prometheus reads them, from a
// file or over HTTP. It is never nil.
func TargetGroups(namespace string, instances []discovery.Instance) []TargetGroup {
	groups := make([]TargetGroup, 0, len(instances))
	for k := range instances {
		groups = append(groups, groupOf(namespace, &instances[k]))
	}
	return groups
}

// ServeHTTP answers Prometheus.
func (d *Directory) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	namespace := cmp.Or(q.Get("namespace"), recipe.DefaultNamespace)
	err := keyspace.CheckNamespace("namespace", namespace)
	for _, service := range q["service"] {
		err = cmp.Or(err, keyspace.CheckName("service", service))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), reading)
	defer cancel()
	groups, err := d.groups(ctx, namespace, q["service"])
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the services are not known for certain: etcd does not answer", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(groups) // the reader is gone, if it fails
}

func (d *Directory) groups(ctx context.Context, namespace string, services []string) ([]TargetGroup, error) {
	r, err := d.resolver(namespace)
	if err != nil {
		return nil, err
	}
	if len(services) == 0 {
		all, err := r.Services(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			services = append(services, s.Name)
		}
	}
	groups := []TargetGroup{}
	for _, service := range slices.Compact(slices.Sorted(slices.Values(services))) {
		s, err := r.Resolve(ctx, service)
		if err != nil {
			return nil, err
		}
		if s.Stale && !errors.Is(s.Cause, discovery.ErrMassLoss) {
			return nil, s.Cause
		}
		groups = append(groups, TargetGroups(namespace, s.Instances)...)
	}
	return groups, nil
}

func groupOf(namespace string, i *discovery.Instance) TargetGroup {
	labels := map[string]string{"namespace": namespace, "service": i.Service, "id": i.ID, "state": string(i.State), "zone": i.Zone, "version": i.Version}
	if len(i.Tags) > 0 { // with separators at both ends, for regular expressions
		labels["tags"] = "," + strings.Join(i.Tags, ",") + ","
	}
	for k, v := range i.Metadata {
		labels["metadata_"+k] = v
	}
	g := TargetGroup{Targets: []string{i.Addr}, Labels: make(map[string]string, len(labels))}
	for k, v := range labels {
		if v != "" {
			g.Labels["__meta_conclave_"+labelName(k)] = v
		}
	}
	return g
}

// labelName is a text as Prometheus wants the name of a label.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}
