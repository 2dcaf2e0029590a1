package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// kubectl knows get, create and replace --raw of the lease that lock-cluster
// keeps. All masters share it, as they share an API server.
func kubectl(root string, args []string, in io.Reader, out io.Writer) error {
	i := slices.Index(args, "--raw")
	if i < 1 || i+1 == len(args) {
		return errors.New("only requests with --raw are known")
	}
	file, err := os.OpenFile(filepath.Join(filepath.Dir(root), "lease.json"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	var have, sent map[string]any
	if err := json.NewDecoder(file).Decode(&have); err != nil && err != io.EOF {
		return err
	}
	version := 1
	if have != nil {
		old, _ := have["metadata"].(map[string]any)["resourceVersion"].(string)
		version, _ = strconv.Atoi(old)
	}
	verb := args[i-1]
	if verb == "get" && have == nil {
		return refusal("NotFound")
	}
	if verb == "get" {
		return json.NewEncoder(out).Encode(have)
	}
	if err := json.NewDecoder(in).Decode(&sent); err != nil {
		return err
	}
	meta, ok := sent["metadata"].(map[string]any)
	switch {
	case !ok:
		return errors.New("no metadata")
	case verb == "create" && have != nil:
		return refusal("AlreadyExists")
	case verb == "replace" && (have == nil || meta["resourceVersion"] != strconv.Itoa(version)):
		return refusal("Conflict")
	case verb != "create" && verb != "replace":
		return fmt.Errorf("%s is not emulated", verb)
	}
	meta["resourceVersion"] = strconv.Itoa(version + 1)
	data, err := json.Marshal(sent)
	if err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// refusal is an error of the API server, by its reason.
func refusal(reason string) error { return fmt.Errorf("error from server (%s)", reason) }
