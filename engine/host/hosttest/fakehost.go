package hosttest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"certbook/engine"
	"certbook/engine/host"
)

// Path returns p.
func (f *Fake) Path(p string) string { return p }

// Now returns the fake's clock.
func (f *Fake) Now(ctx context.Context) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now, f.enter(ctx, Call{Method: "Now"})
}

// ReadFiles returns the files that match, without their secrets.
func (f *Fake) ReadFiles(ctx context.Context, patterns ...string) ([]engine.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, Call{Method: "ReadFiles"}); err != nil {
		return nil, err
	}
	var out []engine.File
	seen := map[string]bool{}
	for _, p := range patterns {
		if !path.IsAbs(p) || strings.Contains(p, "\n") {
			return nil, fmt.Errorf("read files: %q is not an absolute path or pattern", p)
		}
		for _, name := range f.glob(p) {
			if !seen[name] {
				seen[name] = true
				out = append(out, f.read(name))
			}
		}
	}
	return out, nil
}

// glob returns the names that match a pattern, as a shell does.
func (f *Fake) glob(pattern string) []string {
	if !strings.ContainsAny(pattern, "*?[") {
		if f.exists(pattern) {
			return []string{pattern}
		}
		return nil
	}
	found := []string{""}
	for part := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			for _, name := range f.list(dir) {
				ok, err := path.Match(strings.ReplaceAll(part, "[!", "[^"), name)
				if err == nil && ok && (name[0] != '.' || part[0] == '.') {
					next = append(next, dir+"/"+name)
				}
			}
		}
		found = next
	}
	return found
}

func (f *Fake) exists(name string) bool {
	if _, ok := f.files[name]; ok || f.dirs[name] {
		return true
	}
	real, ok := f.resolve(name)
	_, file := f.files[real]
	return ok && (file || f.dirs[real])
}

// list returns the sorted names in a directory.
func (f *Fake) list(dir string) []string {
	real, ok := f.resolve("/" + dir)
	if !ok {
		return nil
	}
	var names []string
	for p := range f.files {
		if path.Dir(p) == real {
			names = append(names, path.Base(p))
		}
	}
	for p := range f.dirs {
		if path.Dir(p) == real && p != "/" {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names
}

func (f *Fake) read(name string) engine.File {
	out := engine.File{Path: name}
	real, ok := f.resolve(name)
	file, isFile := f.files[real]
	if !ok || !isFile && !f.dirs[real] {
		out.Err = "is a symbolic link that leads nowhere"
		return out
	}
	if real != name {
		out.Target = real
	}
	if !isFile {
		out.Mode, out.Err = 0o755, "is a directory"
		return out
	}
	out.Mode, out.UID, out.GID = file.Mode, file.UID, file.GID
	out.Size, out.ModTime = int64(len(file.Data)), file.ModTime
	if out.Size > engine.MaxFileSize {
		out.Err = host.TooLarge(out.Size)
		return out
	}
	out.Data, _ = host.Redact(file.Data)
	if out.Data == nil {
		out.Data = []byte{}
	}
	return out
}

// PublicKeys returns the public keys of the private keys at paths.
func (f *Fake) PublicKeys(ctx context.Context, paths ...string) (map[string][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, Call{Method: "PublicKeys"}); err != nil {
		return nil, err
	}
	keys := map[string][]byte{}
	for _, p := range paths {
		if real, ok := f.resolve(p); ok {
			if pub := host.PublicKey(f.files[real].Data); pub != nil {
				keys[p] = pub
			}
		}
	}
	return keys, nil
}

// ReadSecret returns a file's whole content.
func (f *Fake) ReadSecret(ctx context.Context, name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, Call{Method: "ReadSecret", Path: name}); err != nil {
		return nil, err
	}
	data, err := f.content(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func (f *Fake) content(name string) ([]byte, error) {
	real, _ := f.resolve(name)
	file, ok := f.files[real]
	switch {
	case f.dirs[real]:
		return nil, errors.New("is not a regular file")
	case !ok:
		return nil, errors.New("no such file")
	}
	return append([]byte{}, file.Data...), nil
}

// WriteFile replaces a file.
func (f *Fake) WriteFile(ctx context.Context, name string, data []byte, opt engine.FileOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	data = append([]byte{}, data...)
	err := f.enter(ctx, Call{Method: "WriteFile", Path: name, Data: data, Options: opt})
	if err == nil {
		err = f.replace(name, data, opt)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// InstallAll replaces each file by a copy of its source.
func (f *Fake) InstallAll(ctx context.Context, files []engine.Copy, opt engine.FileOptions) error {
	for _, c := range files {
		if !f.exists(c.Src) {
			return fmt.Errorf("install: %s: %s: no such file", c.Dst, c.Src)
		}
	}
	for _, c := range files {
		if err := f.Install(ctx, c.Src, c.Dst, opt); err != nil {
			return err
		}
	}
	return nil
}

// Install replaces dst by a copy of src.
func (f *Fake) Install(ctx context.Context, src, dst string, opt engine.FileOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter(ctx, Call{Method: "Install", Path: dst, Src: src, Options: opt})
	var data []byte
	if err == nil {
		data, err = f.content(src)
	}
	if err == nil {
		err = f.replace(dst, data, opt)
	}
	if err != nil {
		return fmt.Errorf("install %s as %s: %w", src, dst, err)
	}
	return nil
}

func (f *Fake) replace(name string, data []byte, opt engine.FileOptions) error {
	if !path.IsAbs(name) || strings.HasSuffix(name, "/") {
		return fmt.Errorf("%q is not an absolute path of a file", name)
	}
	real, ok := f.resolve(name)
	switch {
	case !ok:
		return errors.New("its directory does not exist")
	case f.dirs[real]:
		return errors.New("is a directory")
	}
	old, exists := f.files[real]
	file := FakeFile{Data: data, Mode: 0o600, ModTime: f.now}
	if exists {
		file.Mode, file.UID, file.GID = old.Mode, old.UID, old.GID
		if saved := path.Join(opt.Save, name); opt.Save != "" && !f.exists(saved) {
			f.mkdir(path.Dir(saved))
			f.files[saved] = old
		}
	}
	if opt.Mode != 0 {
		file.Mode = opt.Mode.Perm()
	}
	if err := chown(&file, opt.Owner); err != nil {
		return err
	}
	if opt.Save != "" {
		f.note(opt.Save, name, old, exists, data)
	}
	f.files[real] = file
	return nil
}

// note lists what is about to be replaced, see engine.ReplacedList.
func (f *Fake) note(save, name string, old FakeFile, exists bool, data []byte) {
	sum := func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
	before := "-"
	if exists {
		before = sum(old.Data)
	}
	f.mkdir(save)
	at := path.Join(save, engine.ReplacedList)
	list := f.files[at]
	list.Mode, list.ModTime = 0o600, f.now
	list.Data = fmt.Appendf(list.Data, "%d\t%s\t%s\t%s\n", f.now.UnixNano(), before, sum(data), path.Clean(name))
	f.files[at] = list
}

// chown knows numbers and root.
func chown(file *FakeFile, owner string) error {
	if owner == "" {
		return nil
	}
	user, group, both := strings.Cut(owner, ":")
	id := func(s string) (int, error) {
		if s == "root" {
			return 0, nil
		}
		return strconv.Atoi(s)
	}
	n, err := id(user)
	if err != nil {
		return fmt.Errorf("the fake host has no user %q", user)
	}
	file.UID = n
	if both {
		if n, err = id(group); err != nil {
			return fmt.Errorf("the fake host has no group %q", group)
		}
		file.GID = n
	}
	return nil
}

// Handshake returns the chain that Serve has set for address.
func (f *Fake) Handshake(ctx context.Context, address string) ([][]byte, error) {
	f.mu.Lock()
	err, chain := f.enter(ctx, Call{Method: "Handshake"}), f.chains[address]
	f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case chain == nil:
		return nil, fmt.Errorf("handshake with %s: connection refused", address)
	}
	return chain()
}

// Get returns the answer that Answer has set for url.
func (f *Fake) Get(ctx context.Context, url string) (engine.Response, error) {
	f.mu.Lock()
	err, answer := f.enter(ctx, Call{Method: "Get"}), f.answers[url]
	f.mu.Unlock()
	switch {
	case err != nil:
		return engine.Response{}, err
	case answer == nil:
		return engine.Response{}, fmt.Errorf("get %q: connection refused", url)
	}
	return answer()
}

// Close ends the use of the fake: every later call fails.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}
