package launcher

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
)

// A Plugin is the recipe that runs in a process of its own. It is a recipe.Recipe:
// a host opens it, and whatever happens to the process happens behind that. It is
// safe for concurrent use.
type Plugin struct {
	launcher *Launcher
	out      *output

	mu   sync.Mutex
	spec *resolved // what is started next
	open *instance // the one that was opened last; nil: none is
}

var _ recipe.Recipe = (*Plugin)(nil)

// Status says how a plugin is.
type Status struct {
	Name     string        // the recipe's
	Version  string        // of what serves, or was started last
	Summary  string        // what that does, in one line
	State    recipe.State  // what the plugin is doing
	Detail   string        // why, in words; may be empty
	Since    time.Time     // when it came into that state
	PID      int           // 0: there is no process
	Restarts int64         // how often it was started again
	Started  time.Duration // how long the last start took
	Crash    *Crash        // the last one; nil: there was none
}

// A Crash is the end of a process that nobody asked for.
type Crash struct {
	At      time.Time // when it was noticed
	Reason  string    // how it ended, in words
	Version string    // of what ran
	PID     int       // of the process
	Output  string    // the last of what it wrote, at most 64 KiB
}

// ErrNotOpen says that no host has the plugin open.
var ErrNotOpen = errors.New("no host runs the plugin")

// Info implements recipe.Recipe. It says what the Spec does.
func (p *Plugin) Info() recipe.Info {
	s := p.current()
	return recipe.Info{Name: s.Name, Version: s.Version, Summary: s.Summary, Config: s.prototype()}
}

func (p *Plugin) current() *resolved {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec
}

// A forwarder is a registrar whose services another process serves.
type forwarder interface {
	Proxy(services ...protoreflect.ServiceDescriptor) *router.Proxy
}

// Open implements recipe.Recipe. It returns before the process has started, so that
// one which never does keeps no host from being ready: calls are held meanwhile,
// and told to come again.
func (p *Plugin) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	spec := p.current()
	forward, ok := reg.(forwarder)
	if !ok || env.Carrier() == nil {
		return nil, fmt.Errorf("plugin %q: only a host can run it in a process of its own", spec.Name)
	}
	config, err := encode(env.Config)
	if err != nil {
		return nil, fmt.Errorf("plugin %q: %w", spec.Name, err)
	}
	i := newInstance(p, spec, env, config, forward.Proxy(spec.services...))
	if err := p.launcher.enlist(i); err != nil {
		return nil, fmt.Errorf("plugin %q: %w", spec.Name, err)
	}
	p.mu.Lock()
	p.open = i
	p.mu.Unlock()
	p.out.attach(env.Log)
	go i.supervise()
	return i, nil
}

func encode(config proto.Message) ([]byte, error) {
	if config == nil {
		return nil, nil
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(config)
}

// opened returns the instance that is open.
func (p *Plugin) opened() (*instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		return nil, fmt.Errorf("plugin %q: %w", p.spec.Name, ErrNotOpen)
	}
	return p.open, nil
}

// closed forgets an instance.
func (p *Plugin) closed(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == i {
		p.open = nil
	}
}

// Status returns how the plugin is.
func (p *Plugin) Status() Status {
	i, err := p.opened()
	if err != nil {
		s := p.current()
		return Status{Name: s.Name, Version: s.Version, Summary: s.Summary, State: recipe.StateStopped}
	}
	return i.status()
}

// Wait waits until the plugin is in one of the states, and returns how it is. The
// error is the cause of ctx's end, or [ErrNotOpen].
func (p *Plugin) Wait(ctx context.Context, states ...recipe.State) (Status, error) {
	for {
		i, err := p.opened()
		if err != nil {
			return p.Status(), err
		}
		_, changed := i.Report()
		if now := i.status(); slices.Contains(states, now.State) {
			return now, nil
		}
		select {
		case <-changed:
		case <-i.done:
			return i.status(), ErrNotOpen
		case <-ctx.Done():
			return i.status(), context.Cause(ctx)
		}
	}
}

// Restart starts the plugin anew: a process that serves is replaced without losing
// a call, one that is in quarantine gets another chance. It returns when the new
// process serves; after an error the old one still does, if there was one.
func (p *Plugin) Restart(ctx context.Context) error {
	i, err := p.opened()
	if err != nil {
		return err
	}
	return i.ask(ctx, nil)
}

// Upgrade replaces the plugin by another version of it, without losing a call: the
// new process is started beside the old one, new calls go to it from one moment
// on, and the old one ends when its calls have, or after Config.Drain. It returns
// when the new process serves. The new version must serve everything that the old
// one does, as [Compatible] says. After an error the old version runs on as if
// nothing had been asked.
//
// A plugin that no host has open is exchanged for its next start.
func (p *Plugin) Upgrade(ctx context.Context, s Spec) error {
	next, err := resolve(s)
	if err != nil {
		return err
	}
	now := p.current()
	if next.Name != now.Name {
		return fmt.Errorf("plugin %q: %q is another plugin", now.Name, next.Name)
	}
	if err := compatible(now, next); err != nil {
		return fmt.Errorf("plugin %q: %w", now.Name, err)
	}
	p.mu.Lock()
	i := p.open
	p.mu.Unlock()
	if i == nil {
		p.adopt(next)
		return nil
	}
	return i.ask(ctx, next)
}

// adopt makes a version the one that is started next.
func (p *Plugin) adopt(s *resolved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spec = s
}

// Logs returns what the plugin's processes wrote last, at most 64 KiB, and with
// follow what they write from then on, until ctx ends or the plugin is closed. A
// reader that is slower than the plugin misses lines.
func (p *Plugin) Logs(ctx context.Context, follow bool) iter.Seq[Line] {
	ended := make(<-chan struct{})
	if i, err := p.opened(); err == nil {
		ended = i.done
	} else {
		follow = false
	}
	return p.out.follow(ctx, ended, follow)
}

// SetLogLevel changes from which level on the plugin logs.
func (p *Plugin) SetLogLevel(ctx context.Context, level slog.Level) error {
	i, err := p.opened()
	if err != nil {
		return err
	}
	return i.setLevel(ctx, level)
}
