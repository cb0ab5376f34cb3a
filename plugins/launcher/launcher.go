package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Config says how plugins are run. Its zero value is usable.
type Config struct {
	// RunDir is where the sockets are: short, and nobody else's. Empty, or too long
	// for the path of a socket: a folder of its own in the system's for temporary
	// files. It is made with mode 0700, and what a killed host left there is removed.
	RunDir string
	// Log is told what becomes of plugins, and what they write of which no host
	// makes a log. Nil: nobody is.
	Log *slog.Logger
	// Quarantine says when a plugin that fails stays down. Default: 5 crashes within
	// 5 minutes.
	Quarantine Quarantine
	// Backoff is the pause before the second start after a crash; the first is
	// immediate. It doubles up to MaxBackoff. Defaults 100 ms and 30 s.
	Backoff, MaxBackoff time.Duration
	// Settled is how long a plugin has to be ready until its crashes are forgotten.
	// Default 60 s.
	Settled time.Duration
	// CheckEvery is the time between two questions whether a plugin is well, and
	// CheckTimeout how long it may take to answer. Three that are not answered in a
	// row end it. Defaults 10 s and 3 s.
	CheckEvery, CheckTimeout time.Duration
	// Drain is how long the calls of what an upgrade replaces may go on. Default 10 s.
	Drain time.Duration
	// MaxMessage is the size of a message that a plugin may answer with, in bytes.
	// Default 4 MiB, which is what gRPC's clients take.
	MaxMessage int
}

// A Quarantine is so many crashes within so much time.
type Quarantine struct {
	Crashes int           // that put a plugin there
	Within  time.Duration // in which they happen
}

func (c Config) withDefaults() Config {
	setDefault(&c.Quarantine.Crashes, 5)
	setDefault(&c.Quarantine.Within, 5*time.Minute)
	setDefault(&c.Backoff, 100*time.Millisecond)
	setDefault(&c.MaxBackoff, 30*time.Second)
	setDefault(&c.Settled, time.Minute)
	setDefault(&c.CheckEvery, 10*time.Second)
	setDefault(&c.CheckTimeout, 3*time.Second)
	setDefault(&c.Drain, 10*time.Second)
	setDefault(&c.MaxMessage, 4<<20)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T ~int | ~int64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// A Launcher runs plugins. It is safe for concurrent use. Close ends it.
type Launcher struct {
	cfg     Config
	hostEnv map[string]string
	spawner *spawner

	mu        sync.Mutex
	dir       string
	dirLock   *os.File
	closed    bool
	plugins   []*Plugin
	instances map[*instance]struct{}
}

// ErrClosed says that a launcher was closed.
var ErrClosed = errors.New("the launcher is closed")

// New returns a launcher. It does no I/O.
func New(cfg Config) *Launcher {
	return &Launcher{cfg: cfg.withDefaults(), hostEnv: hostEnvironment(), spawner: newSpawner(), instances: make(map[*instance]struct{})}
}

// hostEnvironment returns the environment of this program.
func hostEnvironment() map[string]string {
	env := make(map[string]string)
	for _, pair := range os.Environ() {
		key, value, _ := strings.Cut(pair, "=")
		env[key] = value
	}
	return env
}

// Plugin returns the recipe that a plugin is. It runs nothing: the process starts
// when a host opens the recipe, and ends when the host closes it. The error is
// [ErrSpec].
func (l *Launcher) Plugin(s Spec) (*Plugin, error) {
	spec, err := resolve(s)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("plugin %q: %w", s.Name, ErrClosed)
	}
	p := &Plugin{launcher: l, spec: spec, out: newOutput(l.cfg.Log.With("recipe", s.Name))}
	l.plugins = append(l.plugins, p)
	return p, nil
}

// Forget drops a plugin that no host will open any more, from the metrics too.
func (l *Launcher) Forget(p *Plugin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plugins = slices.DeleteFunc(l.plugins, func(q *Plugin) bool { return q == p })
}

// Close ends the processes of all plugins that are still open, and removes what
// their sockets were in. When ctx ends they are killed.
func (l *Launcher) Close(ctx context.Context) error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	open := make([]*instance, 0, len(l.instances))
	for i := range l.instances {
		open = append(open, i)
	}
	l.mu.Unlock()
	if closed {
		return nil
	}
	var all sync.WaitGroup
	for _, i := range open {
		all.Go(func() { _ = i.Close(ctx) }) // never fails
	}
	all.Wait()
	l.spawner.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dir == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(l.dir), l.dirLock.Close())
}

// enlist makes an instance one of those that Close ends.
func (l *Launcher) enlist(i *instance) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.dir == "" {
		dir, lock, err := makeRunDir(l.cfg.RunDir)
		if err != nil {
			return err
		}
		l.dir, l.dirLock = dir, lock
	}
	l.instances[i] = struct{}{}
	return nil
}

func (l *Launcher) dismiss(i *instance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.instances, i)
}

// A spawner starts processes, all on one thread, which lives until it is closed:
// the kernel ends a process when the thread that started it ends (go#27505).
type spawner struct {
	jobs chan func()
	once sync.Once
	done chan struct{}
}

func newSpawner() *spawner { return &spawner{jobs: make(chan func()), done: make(chan struct{})} }

// run calls f on the thread.
func (s *spawner) run(f func() error) error {
	s.once.Do(func() { go s.serve() })
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- f() }:
		return <-result
	case <-s.done:
		return ErrClosed
	}
}

// serve is the thread, which ends with it: it is never unlocked.
func (s *spawner) serve() {
	runtime.LockOSThread()
	defer close(s.done)
	for job := range s.jobs {
		if job == nil {
			return
		}
		job()
	}
}

// close ends the thread and waits for it.
func (s *spawner) close() {
	unused := false
	s.once.Do(func() {
		unused = true
		close(s.done)
	})
	if unused {
		return
	}
	select {
	case s.jobs <- nil:
	case <-s.done:
	}
	<-s.done
}
