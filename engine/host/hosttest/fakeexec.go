package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"certbook/engine"
)

// Exec runs a handler or one of the built-in commands.
func (f *Fake) Exec(ctx context.Context, c engine.Command) (engine.Output, error) {
	return f.exec(ctx, "Exec", c)
}

// Query behaves as Exec.
func (f *Fake) Query(ctx context.Context, c engine.Command) (engine.Output, error) {
	return f.exec(ctx, "Query", c)
}

func (f *Fake) exec(ctx context.Context, method string, c engine.Command) (engine.Output, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return engine.Output{Code: -1}, errors.New("a command without a program")
	}
	f.mu.Lock()
	err := f.enter(ctx, Call{Method: method, Command: c})
	run := f.builtin
	for _, h := range f.handlers {
		if h.match(c.Argv) {
			run = h.run
		}
	}
	f.mu.Unlock()
	if err != nil {
		return engine.Output{Code: -1}, fmt.Errorf("%s: %w", c, err)
	}
	out, err := run(ctx, c)
	if err != nil {
		return out, fmt.Errorf("%s: %w", c, err)
	}
	if len(out.Stdout) > engine.MaxOutput {
		out.Stdout = out.Stdout[:engine.MaxOutput]
		return out, fmt.Errorf("%s: printed more than %d bytes", c, engine.MaxOutput)
	}
	if c.Stdout != "" {
		f.PutFile(c.Stdout, FakeFile{Data: out.Stdout})
		out.Stdout = nil
	}
	if out.Code != 0 {
		text := string(bytes.TrimSpace(out.Stderr))
		if text == "" {
			text = string(bytes.TrimSpace(out.Stdout))
		}
		for _, m := range c.Mask {
			if m != "" {
				text = strings.ReplaceAll(text, m, "***")
			}
		}
		return out, &engine.ExitError{Command: c.String(), Code: out.Code, Stderr: text}
	}
	return out, nil
}

// builtin runs the commands that every fake has.
func (f *Fake) builtin(_ context.Context, c engine.Command) (engine.Output, error) {
	args := c.Argv[1:]
	var out bytes.Buffer
	switch c.Argv[0] {
	case "true":
	case "false":
		return engine.Output{Code: 1}, nil
	case "echo":
		fmt.Fprintln(&out, strings.Join(args, " "))
	case "printf": // the format is used as it is for each argument, %s alone
		for _, a := range args[1:] {
			out.WriteString(strings.ReplaceAll(strings.ReplaceAll(args[0], `\n`, "\n"), "%s", a))
		}
	case "env":
		fmt.Fprintln(&out, strings.Join(c.Env, "\n"))
	case "id":
		fmt.Fprintln(&out, 0)
	case "sleep":
		return f.sleep(args), nil
	case "cat":
		return f.cat(args, c.Stdin), nil
	case "mkdir", "ln", "chmod", "touch", "rm":
		return f.change(c.Argv[0], args), nil
	default:
		return failed(127, "%s: command not found in the fake host", c.Argv[0]), nil
	}
	return engine.Output{Stdout: out.Bytes()}, nil
}

func failed(code int, format string, args ...any) engine.Output {
	return engine.Output{Code: code, Stderr: fmt.Appendf(nil, format+"\n", args...)}
}

// sleep moves the clock and returns at once.
func (f *Fake) sleep(args []string) engine.Output {
	n, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return failed(1, "sleep: invalid time interval %q", args[0])
	}
	f.Advance(time.Duration(n * float64(time.Second)))
	return engine.Output{}
}

func (f *Fake) cat(names []string, stdin []byte) engine.Output {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(names) == 0 {
		return engine.Output{Stdout: append([]byte{}, stdin...)}
	}
	var out engine.Output
	for _, name := range names {
		data, err := f.content(name)
		if err != nil {
			out.Code = 1
			out.Stderr = fmt.Appendf(out.Stderr, "cat: %s: %v\n", name, err)
		}
		out.Stdout = append(out.Stdout, data...)
	}
	return out
}

// change runs mkdir -p, ln -s, chmod MODE, touch -d @SECONDS and rm -rf.
func (f *Fake) change(name string, args []string) engine.Output {
	if name == "rm" || name == "mkdir" {
		for _, a := range args {
			if strings.HasPrefix(a, "-") {
				continue
			}
			if name == "rm" {
				f.Remove(a)
			} else {
				f.Mkdir(a)
			}
		}
		return engine.Output{}
	}
	to := args[len(args)-1]
	if name == "ln" {
		f.PutFile(to, FakeFile{Link: args[len(args)-2], Mode: 0o777})
		return engine.Output{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	real, _ := f.resolve(to)
	file, ok := f.files[real]
	switch name {
	case "chmod":
		m, err := strconv.ParseUint(args[0], 8, 32)
		if err != nil || !ok {
			return failed(1, "chmod: cannot change %s to %s", path.Base(to), args[0])
		}
		file.Mode = fs.FileMode(m).Perm()
	case "touch":
		file.ModTime = f.now
		if s, found := strings.CutPrefix(strings.Join(args[:len(args)-1], " "), "-d @"); found {
			sec, frac, _ := strings.Cut(s, ".")
			n, _ := strconv.ParseInt(sec, 10, 64)
			ns, _ := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
			file.ModTime = time.Unix(n, ns).UTC()
		}
		if !ok {
			file.Mode = 0o644
		}
	}
	f.files[real] = file
	return engine.Output{}
}
