package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/conclavehq/conclave/core/recipe"
)

// A Host serves recipes. It is started once and stopped once; its methods may be
// called from any goroutine.
type Host struct {
	cfg     Config
	opts    options
	log     *slog.Logger
	recipes []recipe.Recipe // by name

	mu       sync.Mutex
	started  bool
	parts    *parts // what runs, once Start has begun
	addr     net.Addr
	stopping chan struct{} // closed when Stop is called
	stop     sync.Once
	done     chan struct{} // closed when everything has ended
	err      error         // written before done closes
}

// ErrStopped says that a host has been stopped before, or is not running.
var ErrStopped = errors.New("the host is not running")

// New returns a host that Start starts. It does no I/O. The error is [ErrConfig]
// for a configuration outside its limits, a recipe's own among them, and names two
// recipes of one name.
func New(cfg Config, opts ...Option) (*Host, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg.WithDefaults(), stopping: make(chan struct{}), done: make(chan struct{})}
	h.opts.checkEvery = checkEvery
	for _, o := range opts {
		o(&h.opts)
	}
	h.log = h.opts.log
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if err := h.choose(); err != nil {
		return nil, err
	}
	if cfg.Snapshots.To != "" {
		h.opts.runners = append(h.opts.runners, snapshotter{cfg.Snapshots})
	}
	return h, nil
}

// choose puts the recipes that are on in the order of their names, those that the
// host can do without behind the others.
func (h *Host) choose() error {
	seen := make(map[string]bool)
	for _, r := range slices.SortedStableFunc(slices.Values(h.opts.recipes), byRank) {
		name := r.Info().Name
		if err := free(name, seen); err != nil {
			if err := h.leaveOut(r, err); err != nil {
				return err
			}
			continue
		}
		seen[name] = true
		if h.cfg.Recipes[name].Mode == "off" {
			continue
		}
		// A mistake there should not have to wait for an etcd to be told.
		if _, err := configOf(plain(r), h.cfg.Recipes[name].Config); err != nil {
			if r, err = h.substitute(r, err); err != nil {
				return err
			}
		}
		h.recipes = append(h.recipes, r)
	}
	for name, r := range h.cfg.Recipes {
		if !seen[name] && r.Mode != Subprocess {
			return configError("recipes."+name, "this host has no such recipe; of one that is added while it runs the mode is subprocess")
		}
	}
	slices.SortFunc(h.recipes, func(a, b recipe.Recipe) int { return cmp.Compare(a.Info().Name, b.Info().Name) })
	slices.SortStableFunc(h.recipes, byRank)
	return nil
}

// free returns an error for a name that is taken.
func free(name string, seen map[string]bool) error {
	switch {
	case seen[name]:
		return fmt.Errorf("recipe %q is given twice", name)
	case name == ownName || name == adminName:
		return fmt.Errorf("recipe %q: the name is the host's own", name)
	}
	return nil
}

// Run starts the host, waits until ctx ends or the host does, and stops it. It
// returns what ended the host, or nil after a stop that ctx asked for. It waits two
// seconds for the stop, which then goes on: the error is context.DeadlineExceeded.
func (h *Host) Run(ctx context.Context) error {
	if err := h.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was asked to end before it had begun
		}
		return err
	}
	select {
	case <-ctx.Done():
	case <-h.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBudget)
	defer cancel()
	return h.Stop(stopping)
}

// API returns the URL of the API, with the port that it really has; "" before the
// host listens.
func (h *Host) API() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.addr == nil {
		return ""
	}
	scheme := "http://"
	if h.cfg.TLS.enabled() {
		scheme = "https://"
	}
	return scheme + dialable(h.addr.String())
}

// Etcd returns the client URLs of the etcd that the host stands on; nil before it
// has been reached.
func (h *Host) Etcd() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.parts == nil || h.parts.store == nil {
		return nil
	}
	return h.parts.store.endpoints
}

// dialable replaces an address that stands for all of a machine's by loopback.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
