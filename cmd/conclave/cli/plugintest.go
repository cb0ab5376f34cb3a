package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/plugins/catalog"
	"github.com/conclavehq/conclave/plugins/catalog/admin"
	"github.com/conclavehq/conclave/recipes/recipetest/conformance"
)

// roleTestHost is the hidden role in which this binary is a host with one plugin,
// for the check that kills one.
const roleTestHost = "__testhost"

// scenarioFile is where the scenarios of a plugin are looked for, in its folder.
const scenarioFile = "conformance.yaml"

// serveTestHost is a host until its standard input ends.
func (a *app) serveTestHost(ctx context.Context) int {
	if err := conformance.Host(ctx, a.stdin, a.stdout); err != nil {
		a.note(oneLine(err))
		return ExitFailed
	}
	return ExitOK
}

func (a *app) pluginTestCommand() *cobra.Command {
	var scenarios string
	cmd := &cobra.Command{
		Use:   "test PATH",
		Short: "See whether a plugin behaves as a recipe must",
		Long: `test runs the conformance suite on a plugin, in whatever language it was written: on an
etcd and hosts of its own, while it kills and pauses the plugin's process. It needs no
host and changes none. PATH is a folder with a plugin.yaml, or a plugin's binary.

What callers own is checked with scenarios: a few calls that take something, show it,
wait for it and free it. They are read from conformance.yaml beside the plugin, or from
--scenarios; docs/plugin-authors.md says how they are written.`,
		Example: `  conclave plugin test ./ratelimit
  conclave plugin test ./ratelimit/ratelimit --scenarios ./ratelimit/conformance.yaml
  conclave plugin test ./ratelimit -o json | jq .passed`,
		Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.testPlugin(cmd.Context(), args[0], scenarios)
		},
	}
	cmd.Flags().StringVar(&scenarios, "scenarios", "", "file with scenarios and a configuration (default "+scenarioFile+" beside the plugin)")
	return cmd
}

// testPlugin runs the suite on what lies at a path.
func (a *app) testPlugin(ctx context.Context, path, scenarios string) (err error) {
	ctx, restore := signal.NotifyContext(ctx, ending()...)
	defer restore()
	file, err := readScenarios(path, scenarios)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conclave-test-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	subject, err := a.subjectAt(ctx, path, dir)
	if err != nil {
		return err
	}
	cfg := conformance.Config{Config: file.Config, Scenarios: file.Scenarios, Host: &conformance.Program{Path: self, Args: []string{roleTestHost}}}
	report, err := runSuite(ctx, subject, cfg)
	if err != nil {
		return err
	}
	if err := a.printReport(report); err != nil || report.Passed {
		return err
	}
	return exitError(ExitFailed)
}

// subjectAt puts the plugin into a store of its own, from which it is run as a host
// would run it.
func (a *app) subjectAt(ctx context.Context, path, dir string) (subject conformance.Subject, err error) {
	c, err := catalog.Open(catalog.Config{Policy: "off"}, dir)
	if err != nil {
		return subject, err
	}
	err = a.withPackage(ctx, path, func(p *catalog.Package) error {
		prepared, err := c.Prepare(ctx, p)
		if err != nil {
			return packageError(path, err)
		}
		subject, err = conformance.SpecSubject(admin.Spec(prepared))
		return err
	})
	return subject, err
}

// readScenarios reads the file that was named, or the one beside the plugin, if
// there is one.
func readScenarios(path, named string) (conformance.File, error) {
	file := named
	if file == "" {
		folder := path
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			folder = filepath.Dir(path)
		}
		file = filepath.Join(folder, scenarioFile)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && named == "" {
		return conformance.File{}, nil
	}
	if err != nil {
		return conformance.File{}, usage("invalid_scenarios", "", "--scenarios: %s", oneLine(err))
	}
	f, err := conformance.ParseFile(text)
	if err != nil {
		return f, usage("invalid_scenarios", "see docs/plugin-authors.md", "%s: %s", file, oneLine(err))
	}
	return f, nil
}

// runSuite runs every check that applies, until ctx ends.
func runSuite(ctx context.Context, subject conformance.Subject, cfg conformance.Config) (_ conformance.Report, err error) {
	suite, err := conformance.New(ctx, subject, cfg)
	if err != nil {
		return conformance.Report{}, err
	}
	defer func() { err = errors.Join(err, suite.Close()) }()
	var results []conformance.Result
	for _, c := range suite.Checks() {
		results = append(results, suite.Run(ctx, c))
		if ctx.Err() != nil {
			return conformance.Report{}, context.Cause(ctx)
		}
	}
	info := subject.Info()
	return conformance.NewReport(info.Name, info.Version, results), nil
}

// printReport prints every check, and the verdict beside the data.
func (a *app) printReport(r conformance.Report) error {
	rows, count := [][]string{}, map[conformance.Outcome]int{}
	for _, one := range r.Results {
		count[one.Outcome]++
		rows = append(rows, []string{one.Check, string(one.Outcome), clean(one.Detail)})
	}
	if isTerminal(a.stdout) {
		rows = append([][]string{{"CHECK", "OUTCOME", "DETAIL"}}, rows...)
	}
	if err := a.print(r, rows); err != nil {
		return err
	}
	verdict := "passes"
	if !r.Passed {
		verdict = "fails"
	}
	a.note(fmt.Sprintf("%s %s %s %s: %d passed, %d failed, %d skipped", clean(r.Recipe), clean(r.Version), verdict, r.Suite,
		count[conformance.Passed], count[conformance.Failed], count[conformance.Skipped]))
	return nil
}
