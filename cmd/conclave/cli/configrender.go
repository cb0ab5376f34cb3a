package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"
)

const (
	// maxSettle is how many times --settle a stream of changes may put a rendering off.
	maxSettle = 10
	// retryAfter is when a rendering that failed is tried again without a change.
	retryAfter = 10 * time.Second
)

type renderFlags struct {
	templates []string
	check     string
	signal    string
	restart   bool
	once      bool
	mode      string
	settle    durationFlag
	splay     durationFlag
	grace     durationFlag
}

func (a *app) configRenderCommand() *cobra.Command {
	f := renderFlags{
		settle: durationFlag{name: "settle", max: time.Hour, value: 250 * time.Millisecond},
		splay:  durationFlag{name: "splay", max: time.Hour},
		grace:  durationFlag{name: "grace", max: time.Hour, value: commandGrace},
	}
	cmd := &cobra.Command{
		Use:   "render --template IN:OUT [flags] [-- COMMAND [argument...]]",
		Short: "Render files from templates, and again when the configuration changes",
		Long: `render fills templates with configuration and keeps the files up to date. The templates
are Go's, with these functions beside Go's own:

  config KEY            the text of a key; configOr KEY TEXT if it may have no value
  service NAME          the instances that can be sent to, each with .Addr .Host .Port .ID
                        .Zone .Version .Weight .Tags .Metadata; serviceOrNone if there
                        may be none
  json TEXT             parses JSON: {{(json (config "api/limits")).rate}}
  toJSON prettyJSON     the other way round
  quote lower upper trim trimPrefix trimSuffix hasPrefix hasSuffix contains replace
  split lines join indent default int add sub mul base64 fromBase64 sha256

Where one of several texts is the subject it comes last, so that it can be piped.

All templates are rendered, then all changed files are checked, then all are replaced,
each in one step, with owner and permissions kept. A file that would not change is not
touched. If anything fails, all files stay as they are: a key without a value, a key
that was emptied or deleted by hand, a template or a check that fails. It is told on
standard error, and tried again at the next change and every ten seconds.

--check is run by sh for every file that would change, with the new content on standard
input and its path as $1 and in CONCLAVE_FILE. The command after -- is run to its end
when files have changed. With --signal or --restart it is a program that runs all the
time, is started when the files are there, and is sent the signal or is restarted when
they change; when it ends, so does render, with its exit code, and when render is asked
to end it ends the program first. Only if render itself is killed the program goes on.`,
		Example: `  conclave config render --template app.tmpl:/etc/app.conf --once
  conclave config render --template nginx.tmpl:/etc/nginx/nginx.conf --check 'nginx -t -c "$1"' -- nginx -s reload
  conclave config render --template app.tmpl:/run/app.json --signal HUP -- ./app /run/app.json
  conclave config render --template app.tmpl:- --once`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
				return usage("invalid_arguments", "the command must follow --", "unexpected argument %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.newRender(&f, args)
			if err != nil {
				return err
			}
			return r.main(cmd.Context())
		},
	}
	f.register(cmd)
	return cmd
}

func (f *renderFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.templates, "template", nil, "IN:OUT, the template and the file; may be given several times; OUT - is standard output, with --once")
	fs.StringVar(&f.check, "check", "", "shell command that must succeed before files are replaced; it gets the new file as $1")
	fs.StringVar(&f.signal, "signal", "", "keep the command running, and send it this signal when files have changed")
	fs.BoolVar(&f.restart, "restart", false, "keep the command running, and restart it when files have changed")
	fs.BoolVar(&f.once, "once", false, "render once and end")
	fs.StringVar(&f.mode, "mode", "0644", "permissions of a file that is new")
	fs.Var(&f.settle, "settle", "render when nothing has changed for so long, or after ten times that")
	fs.Var(&f.splay, "splay", "wait a random time up to this before files are replaced, so that not all machines do it at once")
	fs.Var(&f.grace, "grace", "time between TERM and KILL for the command")
}

// A render is one run of the command.
type render struct {
	*app
	renderFlags
	pages   []page
	argv    []string
	sig     os.Signal // of --signal
	src     *source
	program *program // that runs all the time, nil while it does not
}

// A page is one template and its file.
type page struct {
	in  string
	tpl *template.Template
	out output
}

func (a *app) newRender(f *renderFlags, argv []string) (*render, error) {
	r := &render{app: a, renderFlags: *f, argv: argv}
	if err := r.checkFlags(); err != nil {
		return nil, err
	}
	mode, err := strconv.ParseUint(f.mode, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		return nil, usage("invalid_mode", "", "--mode: %q is not a mode such as 0640", f.mode)
	}
	seen := make(map[string]bool)
	for _, t := range f.templates {
		in, out, ok := strings.Cut(t, ":")
		switch {
		case !ok || in == "" || out == "":
			return nil, usage("invalid_template", "such as: --template app.tmpl:/etc/app.conf", "--template: %q is not IN:OUT", t)
		case out == "-" && !f.once:
			return nil, usage("invalid_template", "", "--template: standard output is for --once only")
		case out != "-" && seen[filepath.Clean(out)]:
			return nil, usage("invalid_template", "", "--template: %s is the file of two templates", out)
		}
		seen[filepath.Clean(out)] = true
		r.pages = append(r.pages, page{in: in, out: output{path: out, mode: fs.FileMode(mode)}})
	}
	if err := r.parse(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *render) checkFlags() error {
	switch runs := r.signal != "" || r.restart; {
	case len(r.templates) == 0:
		return usage("invalid_template", "such as: --template app.tmpl:/etc/app.conf", "--template is missing")
	case runs && len(r.argv) == 0:
		return usage("invalid_arguments", "such as: --signal HUP -- ./app", "--signal and --restart need a command after --")
	case r.signal != "" && r.restart:
		return usage("invalid_signal", "give one of the two", "--signal and --restart exclude each other")
	case runs && r.once:
		return usage("invalid_once", "", "--once excludes --signal and --restart: nothing changes later")
	}
	if r.signal != "" {
		var ok bool
		if r.sig, ok = signalNamed(r.signal); !ok {
			return usage("invalid_signal", "such as HUP or USR1", "--signal: %q is not a signal", r.signal)
		}
	}
	if len(r.argv) > 0 {
		if _, err := exec.LookPath(r.argv[0]); err != nil && !errors.Is(err, exec.ErrDot) {
			return notRunnable(r.argv[0], err)
		}
	}
	return nil
}

// parse reads the templates. They are read once: a change of a template is a new
// release of whatever it belongs to.
func (r *render) parse() error {
	for i := range r.pages {
		j := &r.pages[i]
		text, err := os.ReadFile(j.in)
		if err != nil {
			return usage("invalid_template", "", "--template: %v", err)
		}
		funcs := templateFuncs()
		funcs["config"] = func(key string) (string, error) { return r.src.text(key) }
		funcs["configOr"] = func(key, otherwise string) (string, error) { return r.src.textOr(key, otherwise) }
		funcs["service"] = func(name string) ([]place, error) { return r.src.instances(name) }
		funcs["serviceOrNone"] = func(name string) ([]place, error) { return r.src.instancesOrNone(name) }
		j.tpl, err = template.New(filepath.Base(j.in)).Option("missingkey=error").Funcs(funcs).Parse(string(text))
		if err != nil {
			return usage("invalid_template", "", "%s: %v", j.in, strings.TrimPrefix(err.Error(), "template: "))
		}
	}
	return nil
}

// main renders until a signal ends it, or the program that it runs ends.
func (r *render) main(ctx context.Context) error {
	ctx, restore := signal.NotifyContext(ctx, ending()...)
	defer restore()
	atMost, work := time.Duration(0), r.loop
	if r.once {
		atMost, work = answering, r.renderOnce
	}
	err := r.withSource(ctx, atMost, work)
	code, ended := errors.AsType[exitError](err)
	if ctx.Err() != nil && !ended {
		return nil // interrupted, which is how it ends
	}
	if ended && code == 0 {
		return nil
	}
	return err
}

func (r *render) renderOnce(ctx context.Context) error {
	changed, err := r.round(ctx)
	if err != nil || !changed || len(r.argv) == 0 {
		return err
	}
	return r.command(ctx)
}

// loop renders, and again after every change.
func (r *render) loop(ctx context.Context) error {
	defer func() { r.program.end(r.grace.value) }()
	told := "" // what is wrong, as it was told last
	for news := false; ; {
		if news {
			if err := r.splayed(ctx); err != nil {
				return err
			}
		}
		changed, err := r.round(ctx)
		problem := ""
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			if problem = describe(err).Message; problem != told {
				r.note("nothing is replaced: " + problem)
			}
		default:
			if err := r.after(ctx, changed); err != nil {
				return err
			}
		}
		told = problem
		if news, err = r.settled(ctx, problem != ""); err != nil {
			return err
		}
	}
}

// settled waits for a change, and then until there is none for a while. What failed
// is tried again without a change too, and then there is no news, which all machines
// would have at once: a disk has room again, a check passes.
func (r *render) settled(ctx context.Context, failed bool) (news bool, err error) {
	var retry <-chan time.Time
	if failed {
		timer := time.NewTimer(retryAfter)
		defer timer.Stop()
		retry = timer.C
	}
	if news, err = r.wait(ctx, retry, r.src.changed); err != nil {
		return false, err
	}
	last := time.NewTimer(maxSettle * r.settle.value)
	defer last.Stop()
	for {
		quiet := time.NewTimer(r.settle.value)
		select {
		case <-quiet.C:
			return news, nil
		case <-last.C:
			quiet.Stop()
			return news, nil
		case <-r.src.changed:
			news = true
			quiet.Stop()
		case <-ctx.Done():
			quiet.Stop()
			return false, context.Cause(ctx)
		}
	}
}

// splayed waits a random time.
func (r *render) splayed(ctx context.Context) error {
	if r.splay.value == 0 {
		return nil
	}
	timer := time.NewTimer(rand.N(r.splay.value))
	defer timer.Stop()
	_, err := r.wait(ctx, timer.C, nil)
	return err
}

// wait returns nil at an event, and whether that is a change, else why it ended: ctx,
// or the program's exit.
func (r *render) wait(ctx context.Context, timer <-chan time.Time, changed <-chan struct{}) (news bool, err error) {
	select {
	case <-timer:
		return false, nil
	case <-changed:
		return true, nil
	case <-r.program.exited():
		return false, r.program.code()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// round renders everything, and replaces what has changed if all of it is good.
func (r *render) round(ctx context.Context) (changed bool, err error) {
	contents := make([][]byte, len(r.pages))
	for i, j := range r.pages {
		var out bytes.Buffer
		if err := j.tpl.Execute(&out, nil); err != nil {
			return false, templateError(j.in, err)
		}
		contents[i] = out.Bytes()
	}
	var ready []candidate
	defer func() {
		for _, c := range ready {
			c.drop() // those that were not committed
		}
	}()
	for i, j := range r.pages {
		same, err := j.out.has(contents[i])
		if err != nil {
			return false, err
		}
		if same || j.out.stdout() {
			continue
		}
		c, err := j.out.prepare(contents[i])
		if err != nil {
			return false, err
		}
		ready = append(ready, c)
		if err := r.passes(ctx, j, c.temp, contents[i]); err != nil {
			return false, err
		}
	}
	for i, j := range r.pages {
		if j.out.stdout() {
			if err := r.printValue(contents[i]); err != nil {
				return false, err
			}
		}
	}
	changed = len(ready) > 0
	for len(ready) > 0 {
		if err := ready[0].commit(); err != nil {
			return changed, err
		}
		ready = ready[1:]
	}
	return changed, nil
}

// templateError keeps what a function said, and with it the exit code.
func templateError(in string, err error) error {
	if e, ok := asError(err); ok {
		return &Error{Exit: e.Exit, Code: e.Code, Reason: e.Reason, Hint: e.Hint, Message: in + ": " + e.Message, cause: err}
	}
	if e, ok := errors.AsType[template.ExecError](err); ok {
		if inner := describe(e.Err); inner.Exit != ExitFailed {
			inner.Message = in + ": " + inner.Message
			return inner
		}
	}
	return fmt.Errorf("%s: %s", in, strings.TrimPrefix(err.Error(), "template: "))
}

// passes runs the check for one file.
func (r *render) passes(ctx context.Context, j page, path string, content []byte) error {
	if r.check == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", r.check, "sh", path)
	cmd.Env = append(append([]string(nil), r.environ...), "CONCLAVE_FILE="+path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(content), r.stderr, r.stderr
	cmd.Cancel, cmd.WaitDelay = func() error { return terminate(cmd.Process) }, r.grace.value
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: the check failed: %w", j.out.path, err)
	}
	return nil
}
