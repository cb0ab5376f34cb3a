package cli

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
)

type registerFlags struct {
	addr, id, zone, version, check string
	meta, tags, hostChecks         []string
	weight                         int
	ttl                            durationFlag
}

func (a *app) serviceRegisterCommand() *cobra.Command {
	f := registerFlags{ttl: defaultTenure().ttl}
	cmd := &cobra.Command{
		Use:   "register NAME --addr HOST:PORT [flags] [-- COMMAND [argument...]]",
		Short: "Register an instance while a command lives",
		Long: `register registers an instance of service NAME, runs the command, and takes the instance
away when the command ends, whose exit code comes through (128+n when signal n ended it).
Without a command the instance is registered until a signal ends register, with exit
code 0. It comes back by itself after every outage of hosts and etcd, and the command
runs on meanwhile.

INT, TERM, HUP and QUIT first take the instance out of service, and then go to the command;
USR1 and USR2 go to the command alone. It finds CONCLAVE_NAME, CONCLAVE_TOKEN,
CONCLAVE_SESSION and CONCLAVE_OWNER in its environment. When this process is killed, the
command is too.

With --check the instance can be sent to only while the check succeeds: http:// and
https:// want an answer 2xx, tcp:// a connection, grpc:// the health service, exec: a
command that exits with 0. It is looked at every 10s, and has to fail three times in a row.
With --host-check hosts look, one at a time, at http://, https://, tcp:// or grpc://, from
where they run; without a host's name in it, at the instance's. A host runs no command.

If the same instance is registered again elsewhere, the later registration counts: this
one says so, and ends with exit code 7 unless it has a command, which runs on.`,
		Example: `  conclave service register web --addr 10.0.0.1:8080 -- ./web
  conclave service register web --addr 10.0.0.1:8080 --check http://10.0.0.1:8080/health -- ./web
  conclave service register db --addr db-1:5432 --id primary --zone eu-1 --meta role=primary`,
		Args: func(cmd *cobra.Command, args []string) error {
			const example = "conclave service register web --addr 10.0.0.1:8080 -- ./web"
			if cmd.ArgsLenAtDash() < 0 {
				return exactly(1, "NAME")(cmd, args)
			}
			return commandArgs(example)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.serviceRegister(cmd.Context(), args[0], args[1:], f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.addr, "addr", "", "where the instance can be reached, host:port (required)")
	fs.StringVar(&f.id, "id", "", "its id within the service; the address if it is not given")
	fs.StringArrayVar(&f.meta, "meta", nil, "metadata, key=value; may be repeated")
	fs.StringArrayVar(&f.tags, "tag", nil, "a tag; may be repeated")
	fs.IntVar(&f.weight, "weight", 1, "its share of requests beside other instances, 1 to 65535")
	fs.StringVar(&f.zone, "zone", "", "where it runs")
	fs.StringVar(&f.version, "version", "", "the program's version")
	fs.StringVar(&f.check, "check", "", "URL to look at: http://, https://, tcp://, grpc:// or exec:")
	fs.StringArrayVar(&f.hostChecks, "host-check", nil, "URL that hosts look at, such as http://:8080/health; may be repeated")
	fs.Var(&f.ttl, "ttl", "time until readers lose it after this machine dies, 5s to 1h")
	return cmd
}

// instance makes of flags what is to be registered.
func (f *registerFlags) instance(name string) (discovery.Instance, error) {
	i := discovery.Instance{Service: name, ID: f.id, Addr: f.addr, Tags: f.tags, Weight: f.weight, Zone: f.zone, Version: f.version}
	if err := keyspace.CheckName("name", name); err != nil {
		return i, usage("invalid_name", "", "%s", err)
	}
	if f.addr == "" {
		return i, usage("invalid_addr", "such as --addr 10.0.0.1:8080", "--addr is missing")
	}
	if f.weight < 1 || f.weight > discovery.MaxWeight {
		return i, usage("invalid_weight", "", "--weight: %d is outside 1 to %d", f.weight, discovery.MaxWeight)
	}
	if i.ID == "" {
		i.ID = i.Addr
	}
	for _, url := range f.hostChecks {
		i.Checks = append(i.Checks, discovery.HostCheck{URL: url})
	}
	for _, kv := range f.meta {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return i, usage("invalid_meta", "such as --meta role=primary", "--meta: %q is not key=value", kv)
		}
		if i.Metadata == nil {
			i.Metadata = map[string]string{}
		}
		i.Metadata[k] = v
	}
	return i, nil
}

// A registering is `service register`.
type registering struct {
	*app
	target   target
	instance discovery.Instance
	check    discovery.Probe
	ttl      time.Duration
	command  *supervise.Config // nil: none
	signals  chan os.Signal
}

func (a *app) serviceRegister(ctx context.Context, name string, argv []string, f registerFlags) error {
	i, err := f.instance(name)
	if err != nil {
		return err
	}
	r := registering{app: a, instance: i, ttl: f.ttl.value, signals: make(chan os.Signal, 8)}
	if f.check != "" {
		if r.check, err = discovery.NewProbe(f.check); err != nil {
			return err
		}
		r.instance.State = discovery.Critical // until it is known to be well
	}
	if r.target, err = a.target(); err != nil {
		return err
	}
	if err := keyspace.CheckNamespace("namespace", a.namespace(r.target)); err != nil {
		return usage("invalid_namespace", "", "%s", err)
	}
	if len(argv) > 0 {
		if r.command, err = a.commandConfig(argv); err != nil {
			return err
		}
	}
	signal.Notify(r.signals, forwarded()...)
	defer signal.Stop(r.signals)
	return r.run(ctx)
}

// run registers, runs the command or waits, and takes the instance away.
func (r *registering) run(ctx context.Context) error {
	e, told, err := r.enrol(ctx)
	switch {
	case told != 0:
		if e != nil {
			e.leave()
		}
		return exitError(128 + int(told))
	case err != nil:
		return err
	}
	defer e.leave()
	monitoring, stop := context.WithCancel(ctx)
	monitored := make(chan struct{})
	go func() {
		defer close(monitored)
		if r.check != nil {
			_ = discovery.Monitor(monitoring, discovery.Check{Probe: r.check}, func(s discovery.State, why error) {
				if why != nil {
					r.note(fmt.Sprintf("service %q: %s: %s", r.instance.Service, s, oneLine(why)))
				}
				e.state(s)
			})
		}
	}()
	defer func() {
		stop()
		<-monitored
	}()
	if r.command == nil {
		r.note(fmt.Sprintf("service %q: instance %q is registered", r.instance.Service, r.instance.ID))
		return r.await(ctx, e)
	}
	return r.runCommand(ctx, e)
}

// await waits for a signal, or for the end of the registration.
func (r *registering) await(ctx context.Context, e enrolment) error {
	for {
		select {
		case sig := <-r.signals:
			if _, ok := ends(sig); ok {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.over().Done():
			return &Error{Exit: ExitLost, Code: "aborted", Reason: "conflict", cause: context.Cause(e.over()),
				Message: fmt.Sprintf("service %q: instance %q was registered again elsewhere, and that counts", r.instance.Service, r.instance.ID),
				Hint:    "give each its own --id"}
		}
	}
}

// runCommand runs the command. The end of a registration, unlike that of a lock,
// is no reason to end it.
func (r *registering) runCommand(ctx context.Context, e enrolment) error {
	cfg := *r.command
	through, stop, stopped := make(chan os.Signal, cap(r.signals)), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		r.forward(e, through, stop)
	}()
	cfg.Signals = through
	cfg.Env = append(withoutOwn(r.environ), "CONCLAVE_NAME="+r.instance.Service, "CONCLAVE_TOKEN="+tokenText(int64(e.token())),
		"CONCLAVE_SESSION="+e.session(), "CONCLAVE_OWNER="+ownerName())
	cfg.Lost = context.WithoutCancel(ctx)
	cfg.Remaining = func() time.Duration { return math.MaxInt64 / 4 }
	cfg.Grace, cfg.Leftover, cfg.Interval = defaultGrace, defaultGrace, 500*time.Millisecond
	res, err := supervise.Run(cfg)
	close(stop)
	<-stopped
	if start, ok := asStart(err); ok {
		return notRunnable(start.Path, start.Err)
	}
	switch {
	case err != nil:
		return fmt.Errorf("service %q: %w", r.instance.Service, err)
	case res.Code != 0:
		return exitError(res.Code)
	}
	return nil
}

// forward hands signals on, and takes the instance out of service before one that
// ends the command.
func (r *registering) forward(e enrolment, to chan<- os.Signal, stop <-chan struct{}) {
	over := e.over().Done()
	for {
		select {
		case <-stop:
			return
		case <-over:
			over = nil
			r.note(fmt.Sprintf("service %q: instance %q was registered again elsewhere, and that counts; the command runs on", r.instance.Service, r.instance.ID))
		case sig := <-r.signals:
			if _, ok := ends(sig); ok {
				e.state(discovery.Draining)
			}
			select {
			case to <- sig:
			case <-stop:
				return
			}
		}
	}
}

// An enrolment is a registration that is kept, at hosts or straight on etcd.
type enrolment interface {
	token() core.Token
	session() string
	// state says how the instance fares, now or as soon as etcd can be told. After
	// draining nothing else is said.
	state(s discovery.State)
	// over ends when the instance was registered again elsewhere.
	over() context.Context
	// leave takes the instance away, and waits for that a few seconds.
	leave()
}
