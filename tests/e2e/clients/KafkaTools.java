import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.common.utils.Exit;

/* Kafka's command-line tools, many calls in one process: KafkaTools HOST:PORT DIR < COMMANDS. A line names a tool and its
 * arguments; {DIR} is replaced. It is printed, then what the tool said on both streams without stack traces, then its exit code. */
public class KafkaTools {
    static final class Ended extends RuntimeException {
        Ended() { super(null, null, false, false); }
    }

    static final Map<String, String> CLASSES = Map.ofEntries(
        Map.entry("acls", "org.apache.kafka.tools.AclCommand"),
        Map.entry("api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
        Map.entry("client-metrics", "org.apache.kafka.tools.ClientMetricsCommand"),
        Map.entry("cluster", "org.apache.kafka.tools.ClusterTool"),
        Map.entry("configs", "kafka.admin.ConfigCommand"),
        Map.entry("consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
        Map.entry("delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
        Map.entry("features", "org.apache.kafka.tools.FeatureCommand"),
        Map.entry("get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
        Map.entry("groups", "org.apache.kafka.tools.GroupsCommand"),
        Map.entry("leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
        Map.entry("log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
        Map.entry("metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
        Map.entry("reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        Map.entry("topics", "org.apache.kafka.tools.TopicCommand"),
        Map.entry("transactions", "org.apache.kafka.tools.TransactionsCommand"));

    static int code; // of the first exit: some tools catch what ends them and exit again

    static void run(String[] words, String address, String dir) {
        List<String> args = new ArrayList<>();
        boolean last = words[0].equals("cluster"); // it takes the option behind its verb
        if (!last) args.addAll(List.of("--bootstrap-server", address));
        for (int i = 1; i < words.length; i++) args.add(words[i].replace("{DIR}", dir));
        if (last) args.addAll(List.of("--bootstrap-server", address));
        code = -1;
        try {
            Class.forName(CLASSES.get(words[0])).getMethod("main", String[].class).invoke(null, (Object) args.toArray(new String[0]));
            if (code < 0) code = 0;
        } catch (java.lang.reflect.InvocationTargetException e) {
            if (code < 0) { System.out.println(e.getCause()); code = 1; }
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException("no such tool: " + words[0], e);
        }
    }

    public static void main(String[] args) throws IOException {
        PrintStream out = System.out;
        Exit.Procedure end = (status, message) -> { if (code < 0) code = status; throw new Ended(); };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null;) {
            if (line.isBlank() || line.startsWith("#")) continue;
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            PrintStream to = new PrintStream(said, true, StandardCharsets.UTF_8);
            System.setOut(to);
            System.setErr(to);
            run(line.trim().split(" +"), args[0], args[1]);
            out.println("> " + line);
            for (String l : said.toString(StandardCharsets.UTF_8).split("\n"))
                if (!l.startsWith("\tat ") && !l.startsWith("\tSuppressed") && !l.startsWith("Caused by") && !l.contains("Ended") && !l.equals("null") && !l.isBlank()) out.println(l);
            out.println("exit code " + code);
            out.flush(); // whoever asks one after the other waits for it
        }
        out.flush();
        Runtime.getRuntime().halt(0);
    }
}
