package conformance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// ConnectionSubject is a recipe behind a plugin's connection, in this process: what
// a subprocess has, but for the process.
func ConnectionSubject(r recipe.Recipe) (Subject, error) {
	about, err := plugins.Describe(r)
	if err != nil {
		return Subject{}, err
	}
	spec := launcher.Spec{Name: about.GetName(), Version: about.GetVersion(), Summary: about.GetSummary(),
		Descriptors: about.GetDescriptors(), Services: about.GetServices(), Config: about.GetConfig()}
	return Subject{
		carrier: Connection, info: r.Info(),
		again: func(context.Context) (recipe.Info, error) { return r.Info(), nil },
		run: func(_ context.Context, s *Suite, with probing) (runner, error) {
			return connect(newProbe(r, with), spec, s.log)
		},
	}, nil
}

// connected is a recipe that a launcher has attached to.
type connected struct {
	supervised

	probe *probe
	relay *relay
	stop  context.CancelFunc
	done  <-chan struct{}
}

func connect(p *probe, spec launcher.Spec, log *slog.Logger) (_ *connected, err error) {
	ctx, stop := context.WithCancel(context.Background())
	c := &connected{supervised: supervised{launcher: launcher.New(tireless(log)), attached: true}, probe: p, stop: stop}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close(context.Background()))
		}
	}()
	attach, done, err := plugins.Debug(ctx, p)
	if err != nil {
		return nil, err
	}
	c.done = done
	if c.relay, err = newRelay(attach); err != nil {
		return nil, err
	}
	spec.Attach = c.relay.path
	c.plugin, err = c.launcher.Plugin(spec)
	return c, err
}

// faults implements runner.
func (c *connected) faults() faults {
	return faults{handed: c.probe.busy.idle, crash: func(ctx context.Context) error {
		mark := c.mark()
		c.relay.cut()
		return c.await(ctx, mark)
	}}
}

// close implements runner.
func (c *connected) close(ctx context.Context) error {
	err := c.supervised.close(ctx)
	c.stop()
	if c.done != nil {
		<-c.done
	}
	if c.relay != nil {
		err = errors.Join(err, c.relay.close())
	}
	return err
}

// A relay is a socket that leads to another, and can be cut.
type relay struct {
	path     string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// newRelay returns a relay beside the socket that it leads to, so that what is
// looked for beside the one is beside the other.
func newRelay(to string) (*relay, error) {
	r := &relay{path: filepath.Join(filepath.Dir(to), "relay")}
	var err error
	if r.listener, err = net.Listen("unix", r.path); err != nil {
		return nil, err
	}
	r.work.Go(func() {
		for {
			near, err := r.listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", to) //nolint:noctx // a socket of this process
			if err != nil {
				near.Close()
				continue
			}
			r.join(near, far)
		}
	})
	return r, nil
}

// join carries bytes between two connections until either ends.
func (r *relay) join(near, far net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, near, far)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		r.work.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // its end is told on both sides
			near.Close()
			far.Close()
		})
	}
}

// cut ends every connection.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// close ends the relay.
func (r *relay) close() error {
	r.listener.Close()
	r.cut()
	r.work.Wait()
	if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
