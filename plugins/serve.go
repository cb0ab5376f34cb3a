package plugins

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
	"github.com/conclavehq/conclave/plugins/internal/wire"
)

// The exit codes of a plugin.
const (
	exitOK       = 0
	exitFailed   = 1
	exitHostGone = 3
)

// Serve is the whole main of a plugin: it serves the recipe to the host that
// started the process, until that ends it, and ends the process. It never returns.
//
// Exit codes: 0 when the host ended it, 1 when it was run by hand or could not
// begin, 3 when its host was gone.
func Serve(r recipe.Recipe, opts ...Option) {
	//nolint:revive // it is the whole of main
	os.Exit(run(process{args: os.Args[1:], getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, r, newOptions(opts)))
}

// A process is what a program has of its own.
type process struct {
	args           []string
	getenv         func(string) string
	stdin          *os.File
	stdout, stderr io.Writer
}

// run is Serve, and returns the exit code.
func run(p process, r recipe.Recipe, o options) int {
	if p.getenv(wire.EnvCookie) != wire.Cookie {
		if code, asked := p.describe(r, o); asked {
			return code
		}
		p.explain(r)
		return exitFailed
	}
	return serve(p, r, o)
}

// describe answers --describe.
func (p process) describe(r recipe.Recipe, o options) (code int, asked bool) {
	binary := slices.Contains(p.args, "--describe=binary")
	if !binary && !slices.Contains(p.args, "--describe") {
		return exitOK, false
	}
	d, err := Describe(r, WithServices(o.services...))
	var out []byte
	if err == nil && binary {
		out, err = proto.MarshalOptions{Deterministic: true}.Marshal(d)
	} else if err == nil {
		out, err = protojson.MarshalOptions{Multiline: true}.Marshal(d)
		out = append(out, '\n')
	}
	if err == nil {
		_, err = p.stdout.Write(out)
	}
	if err != nil {
		_, _ = fmt.Fprintln(p.stderr, err) // nobody is left to be told more
		return exitFailed, true
	}
	return exitOK, true
}

// explain tells whoever runs the program by hand what it is.
func (p process) explain(r recipe.Recipe) {
	info := r.Info()
	_, _ = fmt.Fprintf(p.stderr, `%s %s: %s

This program is a plugin of Conclave and is started by a host:

    conclave dev --plugin PATH     try it in a host of its own
    conclave plugin add PATH       add it to a host
    conclave plugin test PATH      see whether it behaves as a recipe must

What it offers: --describe
`, info.Name, info.Version, info.Summary)
}

// serve serves the recipe to the host.
func serve(p process, r recipe.Recipe, o options) int {
	level := new(slog.LevelVar)
	log := slog.New(newHandler(p.stderr, level))
	gone := newWatch()
	secret, err := transportSecurity(p.getenv)
	if err != nil {
		log.Error("the host's handshake cannot be answered", "error", err)
		return exitFailed
	}
	carried, err := newCarried(r, o, log, level, gone.expect)
	if err != nil {
		log.Error("the recipe cannot be served", "error", err)
		return exitFailed
	}
	carried.secret = secret
	carried.control.begun = sync.OnceFunc(keepOutput())
	if isPipe(p.stdin) {
		go gone.read(p.stdin)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig: wire.Handshake(), VersionedPlugins: map[int]goplugin.PluginSet{wire.Protocol: {wire.Name: carried}},
			TLSProvider: func() (*tls.Config, error) { return secret, nil }, Logger: quiet(p.stderr),
			GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
				return grpc.NewServer(append(append(opts, carried.control.serverOptions()...), grpc.StatsHandler(gone))...)
			},
		})
	}()
	select {
	case <-served:
	case <-gone.gone:
	}
	if gone.expected() {
		return exitOK
	}
	return exitHostGone
}

// keepOutput returns what makes the recipe print to the host's own pipes. go-plugin
// puts others into their place, whose content it sends in calls: what a process printed
// last would go with it when it is killed.
func keepOutput() func() {
	stdout, stderr := os.Stdout, os.Stderr
	return func() { os.Stdout, os.Stderr = stdout, stderr }
}

// transportSecurity reads the certificates that the host hands over, and keeps the
// key from whatever the recipe starts.
func transportSecurity(getenv func(string) string) (*tls.Config, error) {
	pair, err := wire.Parse([]byte(getenv(wire.EnvCert)), []byte(getenv(wire.EnvKey)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", wire.EnvCert, err)
	}
	secret, err := pair.TLS([]byte(getenv(wire.EnvClientCert)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", wire.EnvClientCert, err)
	}
	return secret, errors.Join(os.Unsetenv(wire.EnvKey), os.Unsetenv(wire.EnvCert))
}

// newCarried returns a recipe as go-plugin serves it.
func newCarried(r recipe.Recipe, o options, log *slog.Logger, level *slog.LevelVar, stopping func()) (*carried, error) {
	front, err := router.New(router.Config{Log: log, Hold: -1, MaxRead: -1, Trusted: true, Limits: router.Limits{
		Calls: -1, Reads: -1, Writes: -1, Settling: -1, Streams: -1, Probes: -1, CallerStreams: -1, MessageBytes: -1,
	}})
	if err != nil {
		return nil, err
	}
	front.SetServing(true)
	return &carried{control: &control{recipe: r, services: o.services, router: front, log: log, level: level, stopping: stopping}}, nil
}

// serverOptions let everything that go-plugin has no service for into the router.
// The host has counted and measured a call before.
func (c *control) serverOptions() []grpc.ServerOption {
	return append(c.router.ServerOptions(), grpc.MaxRecvMsgSize(math.MaxInt32))
}
