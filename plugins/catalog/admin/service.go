package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/catalog"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// undoing is how long it may take to take back what has failed.
const undoing = 10 * time.Second

// A Config says what a Service works with. Catalog, Launcher and Log are needed.
type Config struct {
	// Catalog has the plugins.
	Catalog *catalog.Catalog
	// Launcher runs them. It is closed after the host.
	Launcher *launcher.Launcher
	// Log is told what is refused, and what is changed.
	Log *slog.Logger
	// Reserved are names that no plugin can have: those of the host's own recipes.
	Reserved []string
	// Off says which plugins the host's configuration switches off.
	Off func(name string) bool
	// Inprocess says which plugins the host's configuration wants in the host's own
	// process, where none can be: they are refused.
	Inprocess func(name string) bool
}

// A Host is what a Service changes: *host.Host.
type Host interface {
	// AddRecipe serves a recipe. After an error nothing has changed.
	AddRecipe(ctx context.Context, r recipe.Recipe) error
	// RemoveRecipe ends a recipe, which is gone also after an error.
	RemoveRecipe(ctx context.Context, name string) error
}

// A Service is the plugins of a host. It is safe for concurrent use.
type Service struct {
	pluginv1.UnimplementedPluginServiceServer

	cfg Config

	mu      sync.Mutex
	host    Host // nil: not yet
	plugins map[string]*plugin
	busy    map[string]bool // plugins that a call is changing
}

// A plugin is one that is a recipe of the host, or would be if it were well. Only the
// call that has it busy changes it, and that under the service's mu.
type plugin struct {
	name     string
	pin      catalog.Pin      // Version is empty if nothing is known of it
	prepared *catalog.Plugin  // nil: it is refused
	running  *launcher.Plugin // nil as well
	err      error            // why it is refused
	path     string           // of one that is not pinned
	hosted   bool             // the host has it, or what takes its place, as a recipe
}

// New returns a service without plugins.
func New(cfg Config) *Service {
	if cfg.Off == nil {
		cfg.Off = func(string) bool { return false }
	}
	if cfg.Inprocess == nil {
		cfg.Inprocess = func(string) bool { return false }
	}
	return &Service{cfg: cfg, plugins: map[string]*plugin{}, busy: map[string]bool{}}
}

// Load takes in what the catalog has, before a host is made. The error is of
// plugins.lock, and all plugins have it.
func (s *Service) Load(ctx context.Context) error {
	entries, err := s.cfg.Catalog.Load(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if errors.Is(e.Err, catalog.ErrNotAdded) {
			s.cfg.Log.Warn("a plugin that was not added is not run", "plugin", e.Name, "error", e.Err)
			continue
		}
		p := s.take(e)
		s.plugins[e.Name] = p
		p.hosted = !s.reserved(e.Name)
	}
	return err
}

// take makes a plugin of an entry of the catalog.
func (s *Service) take(e catalog.Entry) *plugin {
	p := &plugin{name: e.Name, pin: e.Pin, err: e.Err}
	if p.err == nil {
		p.err = s.forbidden(e.Name)
	}
	if p.err == nil {
		p.prepared = e.Plugin
		p.running, p.err = s.launch(e.Plugin)
	}
	if p.err != nil {
		s.cfg.Log.Error("a plugin is refused", "plugin", e.Name, "error", p.err)
	}
	s.warn(e.Plugin)
	return p
}

func (s *Service) warn(p *catalog.Plugin) {
	if p == nil {
		return
	}
	for _, w := range p.Warnings {
		s.cfg.Log.Warn("a plugin runs although the policy warns", "plugin", p.Manifest.Name, "warning", w)
	}
}

var errReserved = errors.New("the host has a recipe of that name of its own")

func (s *Service) reserved(name string) bool { return slices.Contains(s.cfg.Reserved, name) }

// ErrInprocess says that the host's configuration wants a plugin where none can run.
var ErrInprocess = errors.New("a plugin runs in a process of its own: take the mode out, or write subprocess")

// forbidden says why no plugin of the name can run on the host.
func (s *Service) forbidden(name string) error {
	switch {
	case s.reserved(name):
		return errReserved
	case s.cfg.Inprocess(name):
		return fmt.Errorf("%w: recipes.%s.mode: %w", errRefused, name, ErrInprocess)
	}
	return nil
}

// LoadPath takes in a plugin that lies somewhere, for a development host: it is not
// pinned, takes the place of a pinned one of its name, and is read anew when it is
// restarted. A binary without a manifest is run to ask it what it is. The error is of
// what lies there.
func (s *Service) LoadPath(ctx context.Context, path string) error {
	prepared, err := s.prepare(ctx, path)
	if err != nil {
		return err
	}
	name := prepared.Manifest.Name
	if err := s.forbidden(name); err != nil {
		return fmt.Errorf("plugin %q: %w", name, err)
	}
	run, err := s.launch(prepared)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.plugins[name]; p != nil && p.path != "" {
		return fmt.Errorf("plugin %q is given twice: %s and %s", name, p.path, path)
	}
	if p := s.plugins[name]; p != nil && p.running != nil {
		s.cfg.Log.Warn("a plugin is used from a path instead of the one that was added", "plugin", name, "path", path)
		s.cfg.Launcher.Forget(p.running)
	}
	s.plugins[name] = &plugin{name: name, pin: prepared.Pin, prepared: prepared, running: run, path: path, hosted: true}
	return nil
}

// prepare puts what lies at a path into the store.
func (s *Service) prepare(ctx context.Context, path string) (_ *catalog.Plugin, err error) {
	pkg, err := catalog.Read(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pkg.Close()) }()
	return s.cfg.Catalog.Prepare(ctx, pkg)
}

// An Optional is a recipe for a host that can do without it.
type Optional struct {
	// Recipe is the plugin, or what says why it does not run.
	Recipe recipe.Recipe
	// Instead returns what takes its place after an error.
	Instead func(error) recipe.Recipe
}

// Recipes returns the plugins as recipes, in the order of their names, for the host
// that is going to be bound.
func (s *Service) Recipes() []Optional {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Optional
	for _, p := range s.plugins {
		if p.hosted {
			all = append(all, Optional{p.recipe(), func(err error) recipe.Recipe { return s.refuse(p, err) }})
		}
	}
	slices.SortFunc(all, func(a, b Optional) int { return strings.Compare(a.Recipe.Info().Name, b.Recipe.Info().Name) })
	return all
}

// recipe returns the plugin, or what stands in its place.
func (p *plugin) recipe() recipe.Recipe {
	if p.running != nil {
		return p.running
	}
	summary := "A plugin that is not run"
	if p.prepared != nil {
		summary = p.prepared.Manifest.Summary
	}
	version := p.pin.Version
	if version == "" {
		version = "0.0.0"
	}
	return launcher.Broken(p.name, version, summary, fmt.Errorf("%w; %s", p.err, mend(p)))
}

// mend is the command that may mend a plugin that is refused.
func mend(p *plugin) string {
	if hint := hintOf(p.name, p.err); hint != "" && p.path == "" {
		return hint
	}
	return "conclave plugin restart " + p.name + " tries again"
}

// refuse turns a plugin into one that does not run, which the host has found out.
func (s *Service) refuse(p *plugin, err error) recipe.Recipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.running != nil {
		s.cfg.Launcher.Forget(p.running)
	}
	p.running, p.err = nil, err
	return p.recipe()
}

// Bind gives the service the host that was made of its recipes, and serves. It has the
// data directory to itself, so that what an earlier one left unfinished can go.
func (s *Service) Bind(h Host) {
	if err := s.cfg.Catalog.Sweep(); err != nil {
		s.cfg.Log.Warn("what an earlier host left unfinished could not be removed", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = h
}

// begin makes a plugin one that only this call changes, until done is called.
func (s *Service) begin(name string) (h Host, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.host == nil:
		return nil, nil, errStarting
	case s.busy[name]:
		return nil, nil, fmt.Errorf("plugin %q: %w", name, errBusy)
	}
	s.busy[name] = true
	return s.host, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.busy, name)
	}, nil
}

func (s *Service) find(name string) *plugin {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plugins[name]
}

// set changes what others read of a plugin.
func (s *Service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// launch makes a plugin that a host can open. Nothing is run.
func (s *Service) launch(p *catalog.Plugin) (*launcher.Plugin, error) {
	return s.cfg.Launcher.Plugin(Spec(p))
}

// Spec says how a plugin is started, for the launcher.
func Spec(p *catalog.Plugin) launcher.Spec {
	m := p.Manifest
	return launcher.Spec{
		Name: m.Name, Version: m.Version, Summary: m.Summary,
		Path: p.Path, SHA256: p.Pin.SHA256.Bytes(),
		Descriptors: p.Descriptors, Services: m.Services, Config: m.Config, HostSocket: m.HostSocket,
		Limits: launcher.Limits{MemoryBytes: int64(m.Limits.Memory), CPUs: m.Limits.CPUs, OpenFiles: uint64(max(0, m.Limits.OpenFiles)),
			StartTimeout: time.Duration(m.Limits.StartTimeout)},
	}
}

// settled waits until the plugin serves, or does not. The error says why it does not,
// with the last that it wrote, or is the cause of ctx's end.
func settled(ctx context.Context, p *launcher.Plugin) error {
	now, err := p.Wait(ctx, recipe.StateReady, recipe.StateDegraded, recipe.StateBackoff, recipe.StateQuarantined, recipe.StateStopped)
	switch {
	case err != nil:
		return err
	case now.State == recipe.StateReady || now.State == recipe.StateDegraded:
		return nil
	case now.Crash == nil:
		return fmt.Errorf("%w: it is %s: %s", errFailed, now.State, now.Detail)
	}
	why := now.Crash.Reason // Detail has what is going to be done about it
	if last := lastLines(now.Crash.Output); last != "" {
		why += "\n" + last
	}
	return fmt.Errorf("%w: %s", errFailed, why)
}

// lastLines are those that a message has room for.
func lastLines(output string) string {
	const lines, bytes = 8, 1500
	all := strings.Split(strings.TrimSpace(output), "\n")
	text := strings.Join(all[max(0, len(all)-lines):], "\n")
	return strings.ToValidUTF8(text[max(0, len(text)-bytes):], "") // it may begin within a character
}
