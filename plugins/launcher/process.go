package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	goplugin_runner "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/internal/wire"
)

const protocol = wire.Protocol

// killGrace is how long a process may take to end that was asked to by go-plugin,
// which itself waits 2 s.
const killGrace = 3 * time.Second

// A process is a plugin that is open.
type process struct {
	spec    *resolved
	client  *goplugin.Client
	run     *runner
	conn    *grpc.ClientConn
	control pluginv1.ControlServiceClient
	etcd    *etcdServer
	took    time.Duration // from the start until it was open
	gone    chan struct{} // closed when it cannot be reached any more, which is before its end is known
	watched sync.WaitGroup
}

// dispensed is what go-plugin gives of a process.
type dispensed struct {
	goplugin.NetRPCUnsupportedPlugin
}

type reached struct {
	broker *goplugin.GRPCBroker
	conn   *grpc.ClientConn
}

// GRPCServer implements goplugin.GRPCPlugin; the process has its own.
func (dispensed) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host serves no recipe here")
}

// GRPCClient implements goplugin.GRPCPlugin.
func (dispensed) GRPCClient(_ context.Context, broker *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &reached{broker, conn}, nil
}

// An opening is what a process is opened with.
type opening struct {
	launcher *Launcher
	out      *output
	env      recipe.Env
	config   []byte
	level    *slog.LevelVar
}

// start starts a process and opens the recipe in it. When it fails, or ctx ends,
// nothing is left of it.
func (o opening) start(ctx context.Context, spec *resolved) (_ *process, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Limits.StartTimeout, errStartTimeout)
	defer cancel()
	if err := verify(spec.Path, spec.SHA256); err != nil {
		return nil, err
	}
	p := &process{spec: spec, gone: make(chan struct{}), run: newRunner(o.out, spec.Limits, o.launcher.spawner.run)}
	p.run.attach = spec.Attach
	defer func() {
		if err == nil {
			return
		}
		err = p.run.problem(err)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		p.kill()
		o.out.note("%s does not start: %s", p.who(), oneLine(err))
	}()
	host, theirs, err := pairs()
	if err != nil {
		return nil, err
	}
	if err := p.connect(ctx, o, host, theirs); err != nil {
		return nil, err
	}
	if err := p.open(ctx, o); err != nil {
		return nil, err
	}
	p.took = time.Since(began)
	o.out.note("%s serves", p.who())
	p.watched.Go(p.watch)
	return p, nil
}

// watch notices that the connection breaks, which it does before the kernel tells
// that the process has ended: calls that come in between are held as well.
func (p *process) watch() {
	defer close(p.gone)
	for s := p.conn.GetState(); s == connectivity.Ready; s = p.conn.GetState() {
		p.conn.WaitForStateChange(context.Background(), s) // it changes at the latest when it is closed
	}
}

// pairs makes the certificates of one start.
func pairs() (host, theirs *wire.Pair, err error) {
	if host, err = wire.NewPair(); err != nil {
		return nil, nil, err
	}
	theirs, err = wire.NewPair()
	return host, theirs, err
}

// connect starts the process and connects to it.
func (p *process) connect(ctx context.Context, o opening, host, theirs *wire.Pair) error {
	secret, err := host.TLS(theirs.Cert)
	if err != nil {
		return err
	}
	l := o.launcher
	made := func(_ hclog.Logger, cmd *exec.Cmd, dir string) (goplugin_runner.Runner, error) {
		program := exec.Command(p.spec.Path, p.spec.Args...) //nolint:noctx // it outlives the start, and its end is the launcher's business
		program.Dir = filepath.Dir(p.spec.Path)
		program.Env = slices.Concat(p.spec.environment(l.hostEnv), cmd.Env, []string{
			wire.EnvCert + "=" + string(theirs.Cert), wire.EnvKey + "=" + string(theirs.Key), wire.EnvClientCert + "=" + string(host.Cert)})
		p.run.cmd, p.run.dir = program, dir
		return p.run, nil
	}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: wire.Handshake(), VersionedPlugins: map[int]goplugin.PluginSet{protocol: {wire.Name: dispensed{}}},
		RunnerFunc: made, SkipHostEnv: true, TLSConfig: secret, StartTimeout: p.spec.Limits.StartTimeout,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: l.dir},
		SyncStdout:       p.sync(o), SyncStderr: p.sync(o),
		GRPCDialOptions: []grpc.DialOption{grpc.WithIdleTimeout(0), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(l.cfg.MaxMessage))},
	})
	// go-plugin heeds no context: what ends it is the end of the process.
	defer context.AfterFunc(ctx, func() { _ = p.run.Kill(ctx) })()
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	got, err := protocol.Dispense(wire.Name)
	if err != nil {
		return err
	}
	r, ok := got.(*reached)
	if !ok {
		return ErrHandshake
	}
	p.conn, p.control = r.conn, pluginv1.NewControlServiceClient(r.conn)
	p.etcd, err = o.serveEtcd(p, r.broker, host, theirs)
	return err
}

// sync takes what the process prints once it serves.
func (p *process) sync(o opening) *splitter {
	return &splitter{line: func(s string) { o.out.write(int(p.run.pid.Load()), s) }}
}

// open hands the recipe its configuration and its share of etcd.
func (p *process) open(ctx context.Context, o opening) error {
	if _, err := p.control.Validate(ctx, &pluginv1.ValidateRequest{Config: o.config}); err != nil {
		return fmt.Errorf("%w: %w", errConfig, plain(err))
	}
	resp, err := p.control.Open(ctx, &pluginv1.OpenRequest{Instance: o.env.Instance, Config: o.config,
		BrokerId: p.etcd.broker, EtcdAddress: p.etcd.address, LogLevel: levelName(o.level.Level())})
	if err != nil {
		return fmt.Errorf("it cannot be opened: %w", plain(err))
	}
	for _, sd := range p.spec.services {
		if !slices.Contains(resp.GetServices(), string(sd.FullName())) {
			return fmt.Errorf("%w: %s", errServices, sd.FullName())
		}
	}
	return nil
}

var (
	errConfig   = errors.New("its configuration is refused")
	errServices = errors.New("it does not serve what its manifest says")
)

// levelName is the name of a level in the protocol.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// stop ends a process in order: its calls have the patience to end, and those that
// wait are told to call again. When ctx ends it is killed.
func (p *process) stop(ctx context.Context, patience time.Duration) {
	bound, cancel := context.WithTimeout(ctx, patience+drainSlack)
	defer cancel()
	if _, err := p.control.Drain(bound, &pluginv1.DrainRequest{Timeout: durationpb.New(patience)}); err != nil {
		p.kill()
		return
	}
	p.end(ctx)
}

// drainSlack is for the process to close the recipe once its calls have ended.
const drainSlack = 4 * time.Second

// end ends a process that was drained.
func (p *process) end(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = p.run.Kill(ctx) })()
	p.etcd.stop()
	late := time.AfterFunc(killGrace, func() { _ = p.run.Kill(ctx) })
	defer late.Stop()
	p.client.Kill()
	p.run.ended()
	p.etcd.wait()
	p.watched.Wait()
}

// kill ends whatever there is of a process.
func (p *process) kill() {
	_ = p.run.Kill(context.Background())
	p.etcd.stop()
	if p.client != nil {
		p.client.Kill()
	}
	p.run.ended()
	p.etcd.wait()
	p.watched.Wait()
}

// who names the process.
func (p *process) who() string {
	if pid := p.pid(); pid != 0 {
		return fmt.Sprintf("process %d, version %s,", pid, p.spec.Version)
	}
	return fmt.Sprintf("version %s", p.spec.Version)
}

// oneLine is an error as a line of a log.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// pid is the number of the process.
func (p *process) pid() int { return int(p.run.pid.Load()) }

// An etcdServer serves the recipe's share of etcd to its process.
type etcdServer struct {
	broker  uint32 // how the process finds it
	address string // the same, by a socket

	server  *grpc.Server
	serving sync.WaitGroup
}

// serveEtcd serves the recipe's share of etcd: on go-plugin's broker, or on a
// socket.
func (o opening) serveEtcd(p *process, broker *goplugin.GRPCBroker, host, theirs *wire.Pair) (*etcdServer, error) {
	s := &etcdServer{}
	secret, err := host.TLS(theirs.Cert)
	if err != nil {
		return nil, err
	}
	server := s.make(o.env.Carrier(), grpc.Creds(credentials.NewTLS(secret)))
	if p.spec.HostSocket {
		s.address = filepath.Join(p.run.dir, "etcd")
		l, err := net.Listen("unix", s.address)
		if err != nil {
			return nil, err
		}
		s.serving.Go(func() { _ = server.Serve(l) }) // until it is stopped
		return s, nil
	}
	s.broker = broker.NextId()
	s.serving.Go(func() {
		// Not AcceptAndServe, which writes what went wrong to the program's own log.
		l, err := broker.Accept(s.broker)
		if err != nil {
			return // the process has ended, or will say that it reaches nothing
		}
		_ = server.Serve(l) // until it is stopped
	})
	return s, nil
}

func (s *etcdServer) make(share recipe.Carrier, opts ...grpc.ServerOption) *grpc.Server {
	s.server = grpc.NewServer(append(opts, grpc.UnknownServiceHandler(share.Unknown))...)
	share.Register(s.server)
	return s.server
}

// wait waits until it serves no more, after stop.
func (s *etcdServer) wait() {
	if s != nil {
		s.serving.Wait()
	}
}

// stop ends the server and its calls. A nil server has ended.
func (s *etcdServer) stop() {
	if s != nil {
		s.server.Stop()
	}
}
