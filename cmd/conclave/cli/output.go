package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/mattn/go-isatty"
	"sigs.k8s.io/yaml"
)

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// print writes data in the chosen form: doc as JSON or YAML, rows as a table.
func (a *app) print(doc any, rows [][]string) error {
	switch a.flags.output.value {
	case outputJSON:
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(doc)
	case outputYAML:
		b, err := yaml.Marshal(doc)
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(b)
		return err
	}
	return table(a.stdout, rows)
}

// printList writes a list: docs as JSON or YAML, rows as a table, which has a
// header on a terminal and none where a program reads it.
func (a *app) printList(docs any, header []string, rows [][]string) error {
	if isTerminal(a.stdout) && len(rows) > 0 {
		rows = append([][]string{header}, rows...)
	}
	return a.print(docs, rows)
}

// printItem writes one of a stream: a JSON document on a line, a YAML document, or
// a row.
func (a *app) printItem(doc any, row []string) error {
	if a.flags.output.value == outputYAML {
		if _, err := fmt.Fprintln(a.stdout, "---"); err != nil {
			return err
		}
	}
	return a.print(doc, [][]string{row})
}

// table aligns columns on a terminal and separates them by one tab elsewhere.
func table(w io.Writer, rows [][]string) error {
	if !isTerminal(w) {
		for _, row := range rows {
			if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
				return err
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// printError tells the user what happened. An error of an error has no reader.
func (a *app) printError(e *Error, output string) {
	switch output {
	case outputJSON:
		_ = json.NewEncoder(a.stderr).Encode(map[string]*Error{"error": e})
	case outputYAML:
		if b, err := yaml.Marshal(map[string]*Error{"error": e}); err == nil {
			_, _ = a.stderr.Write(b)
		}
	default:
		_, _ = fmt.Fprintln(a.stderr, "conclave:", e.Message)
		if e.Hint != "" {
			_, _ = fmt.Fprintln(a.stderr, "hint:", e.Hint)
		}
	}
}

// note tells the user something that is neither data nor the error that ends the
// command: a line, or with -o json an object on a line of its own.
func (a *app) note(line string) {
	if a.flags.output.value == outputJSON {
		_ = json.NewEncoder(a.stderr).Encode(map[string]string{"note": line})
		return
	}
	_, _ = fmt.Fprintln(a.stderr, "conclave:", line)
}

// outputIn finds --output in a command line that may be too wrong to parse.
func outputIn(args []string) string {
	for i, arg := range args {
		switch {
		case arg == "--":
			return outputTable
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			return args[i+1]
		case strings.HasPrefix(arg, "--output="):
			return strings.TrimPrefix(arg, "--output=")
		case strings.HasPrefix(arg, "-o"):
			return strings.TrimPrefix(strings.TrimPrefix(arg, "-o"), "=")
		}
	}
	return outputTable
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
