package plugins

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/internal/wire"
)

// Debug serves a recipe in this process, to a launcher whose Spec.Attach is what
// it returns: under a debugger, or in a test whose race detector shall see both
// sides. To the host it is a plugin like any other; each start is another instance
// of the recipe here.
//
// It serves until ctx ends, which is to its host as if the process had died, and
// closes done when nothing of it runs any more. Whoever can open the attachment,
// which is this user, can call the recipe.
func Debug(ctx context.Context, r recipe.Recipe, opts ...Option) (attach string, done <-chan struct{}, err error) {
	dir, err := os.MkdirTemp("", "conclave-")
	if err != nil {
		return "", nil, fmt.Errorf("debug: %w", err)
	}
	attach = filepath.Join(dir, "attach")
	l, err := net.Listen("unix", attach)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("debug: %w", err), os.RemoveAll(dir))
	}
	d := &debugging{recipe: r, options: newOptions(opts), dir: dir}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		defer close(over)
		defer stop()
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			d.work.Go(func() { d.serve(ctx, conn) })
		}
		d.work.Wait()
		_ = os.RemoveAll(dir) // it holds nothing but sockets
	}()
	return attach, over, nil
}

// debugging is a recipe that hosts attach to.
type debugging struct {
	recipe  recipe.Recipe
	options options
	dir     string
	count   atomic.Int64
	work    sync.WaitGroup
}

// serve is one start of the plugin. The connection stands for a process: what it
// is told first is the environment, what it is told back standard output, and its
// end the end of the process, or of the host.
func (d *debugging) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // also from one who says nothing
	in := bufio.NewReader(conn)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return
	}
	var env []string
	if err := json.Unmarshal(line, &env); err != nil {
		return
	}
	out := &lockedWriter{w: conn}
	level := new(slog.LevelVar)
	log := slog.New(newHandler(out, level))
	s, err := d.start(env, log, level)
	if err != nil {
		log.Error("the recipe cannot be served", "error", err)
		return
	}
	if _, err := fmt.Fprintf(out, "1|%d|unix|%s|grpc|\n", wire.Protocol, s.addr); err == nil {
		s.await(ctx, in, conn)
	}
	s.end()
}

// start serves the recipe on a socket of its own.
func (d *debugging) start(env []string, log *slog.Logger, level *slog.LevelVar) (*attached, error) {
	secret, err := secretOf(env)
	if err != nil {
		return nil, err
	}
	s := &attached{asked: make(chan struct{}), addr: filepath.Join(d.dir, fmt.Sprint(d.count.Add(1)))}
	c, err := newCarried(d.recipe, d.options, log, level, func() {})
	if err != nil {
		return nil, err
	}
	s.control = c.control
	s.control.dial = func(r *pluginv1.OpenRequest) (*grpc.ClientConn, error) {
		return dialSocket(r.GetEtcdAddress(), secret)
	}
	l, err := net.Listen("unix", s.addr)
	if err != nil {
		return nil, err
	}
	s.server = grpc.NewServer(append(s.control.serverOptions(), grpc.Creds(credentials.NewTLS(secret)))...)
	pluginv1.RegisterControlServiceServer(s.server, s.control)
	s.server.RegisterService(s.controller(), nil)
	s.serving.Go(func() { _ = s.server.Serve(l) }) // until it is stopped
	return s, nil
}

// secretOf reads the certificates from an environment.
func secretOf(env []string) (*tls.Config, error) {
	given := make(map[string]string, len(env))
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		given[key] = value
	}
	pair, err := wire.Parse([]byte(given[wire.EnvCert]), []byte(given[wire.EnvKey]))
	if err != nil {
		return nil, err
	}
	return pair.TLS([]byte(given[wire.EnvClientCert]))
}

// attached is a recipe that a host has attached to.
type attached struct {
	addr    string
	control *control
	server  *grpc.Server
	serving sync.WaitGroup
	once    sync.Once
	asked   chan struct{} // closed when the host asks it to end
}

// controller is the one method of go-plugin's own by which a host ends a process.
func (s *attached) controller() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "plugin.GRPCController", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Shutdown",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			s.once.Do(func() { close(s.asked) })
			return new(emptypb.Empty), dec(new(emptypb.Empty))
		},
	}}}
}

// await waits until the host has gone, or asks for the end, or ctx ends.
func (s *attached) await(ctx context.Context, in io.Reader, conn net.Conn) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, in) // an error ends it as well
	}()
	select {
	case <-gone:
	case <-s.asked:
	case <-ctx.Done():
	}
	conn.Close()
	<-gone
}

// end ends what a process would have taken with it. What the recipe does when it
// is closed reaches etcd no more.
func (s *attached) end() {
	s.server.Stop()
	s.serving.Wait()
	s.control.abandon()
}

// abandon ends the recipe as the end of its process would.
func (c *control) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || c.drained {
		return
	}
	c.drained = true
	_ = c.conn.Close() // before anything else can be told to etcd
	c.published.Cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
	defer cancel()
	if err := c.close(ctx); err != nil {
		c.log.Debug("the recipe did not end in order", "error", err)
	}
}

// lockedWriter lets lines through one by one.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
