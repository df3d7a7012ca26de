%% The far anchor: what the same things cost in Erlang/OTP, in microseconds of CPU time for each (idle: in KiB).
%%
%% Every actor is a gen_server, every supervisor OTP's. Compiled and run by bench_erlang.py, which says with what flags.
%% A line of the answer is a subject and one figure. statistics(runtime) counts milliseconds, so the counts are large.

-module(bench).
-behaviour(gen_server).
-export([main/2, start_link/1, start_group/2]).
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).

main(Subjects, Times) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    [io:format("~s ~.4f~n", [Subject, measure(Subject)]) || _ <- lists:seq(1, Times), Subject <- Subjects].

%% -- the actor: counts what it is told, answers the count; says to a watcher that it is up, and when it cleans up

start_link(Watcher) -> gen_server:start_link(?MODULE, Watcher, []).

init({group, Flags, Children}) ->
    {ok, {Flags, Children}};
init(none) ->
    {ok, {none, 0}};
init({cleanup, Watcher}) ->
    process_flag(trap_exit, true),
    {ok, {{cleanup, Watcher}, 0}};
init(Watcher) ->
    Watcher ! {up, self()},
    {ok, {Watcher, 0}}.

handle_call(_Question, _From, {Watcher, Count}) -> {reply, Count + 1, {Watcher, Count + 1}}.

handle_cast(crash, _State) -> error(crash);
handle_cast(stop, State) -> {stop, normal, State};
handle_cast(_Message, {Watcher, Count}) -> {noreply, {Watcher, Count + 1}}.

terminate(_Reason, {{cleanup, Watcher}, _Count}) -> Watcher ! clean;
terminate(_Reason, _State) -> ok.

%% -- the subjects

%% One sender and one actor; a question at every 1,024th message keeps the mailbox bounded.
measure(tell) ->
    Rounds = 1000,
    {ok, Pid} = start_link(none),
    Cost = cost(Rounds * 1024, fun() ->
        repeat(Rounds, fun() ->
            repeat(1024, fun() -> gen_server:cast(Pid, message) end),
            gen_server:call(Pid, question)
        end)
    end),
    gen_server:stop(Pid),
    Cost;
measure(ask) ->
    Count = 200000,
    {ok, Pid} = start_link(none),
    Cost = cost(Count, fun() -> repeat(Count, fun() -> gen_server:call(Pid, question) end) end),
    gen_server:stop(Pid),
    Cost;
%% A bare process that does nothing, and its end: bursts of 10,000.
measure(spawn) ->
    cost(100000, fun() ->
        repeat(10, fun() ->
            Started = [spawn_monitor(fun() -> ok end) || _ <- lists:seq(1, 10000)],
            [receive {'DOWN', Ref, process, _, _} -> ok end || {_, Ref} <- Started]
        end)
    end);
%% A supervised actor, one message, its end: bursts of 10,000.
measure(supervised_spawn) ->
    Top = supervisor(simple_one_for_one, [child(actor, [none], temporary)]),
    Cost = cost(50000, fun() ->
        repeat(5, fun() ->
            Started = [start_child(Top) || _ <- lists:seq(1, 10000)],
            Watched = [monitor(process, Pid) || Pid <- Started],
            [gen_server:cast(Pid, stop) || Pid <- Started],
            [receive {'DOWN', Ref, process, _, _} -> ok end || Ref <- Watched]
        end)
    end),
    stop(Top),
    Cost;
%% Crash, restart, next answer. A new supervisor for every 200, since its history grows with each restart.
measure(restart) ->
    Groups = [supervisor(one_for_one, [child(actor, [self()], permanent)]) || _ <- lists:seq(1, 20)],
    Actors = [receive {up, Pid} -> Pid end || _ <- Groups],
    Cost = cost(20 * 200, fun() -> [crash(Pid, 200) || Pid <- Actors] end),
    [stop(Group) || Group <- Groups],
    Cost;
%% A tree of 100 x 100 in which every actor cleans up; divided by 10,100, as in bench_stop.py.
measure(stop) ->
    Numbers = lists:seq(1, 100),
    Actors = [child(Number, [{cleanup, self()}], permanent) || Number <- Numbers],
    Group = #{start => {?MODULE, start_group, [one_for_one, Actors]}, type => supervisor, shutdown => infinity},
    Top = supervisor(one_for_one, [Group#{id => Number} || Number <- Numbers]),
    Cost = cost(100 * 101, fun() -> stop(Top) end),
    [receive clean -> ok after 0 -> error(not_cleaned_up) end || _ <- lists:seq(1, 10000)],
    Cost;
%% 1,000 senders with 200 messages each; the mailbox has no bound.
measure(fan_in) ->
    {ok, Pid} = start_link(none),
    Send = fun() -> repeat(200, fun() -> gen_server:cast(Pid, message) end) end,
    Cost = cost(200000, fun() ->
        Started = [spawn_monitor(Send) || _ <- lists:seq(1, 1000)],
        [receive {'DOWN', Ref, process, _, _} -> ok end || {_, Ref} <- Started],
        200001 = gen_server:call(Pid, question)
    end),
    gen_server:stop(Pid),
    Cost;
measure(idle) ->
    Top = supervisor(simple_one_for_one, [child(actor, [none], temporary)]),
    Before = memory(),
    [start_child(Top) || _ <- lists:seq(1, 100000)],
    KiB = (memory() - Before) / 100000 / 1024,
    stop(Top),
    KiB.

%% -- helpers

start_group(Strategy, Children) ->
    supervisor:start_link(?MODULE, {group, #{strategy => Strategy, intensity => 1000, period => 1}, Children}).

supervisor(Strategy, Children) ->
    {ok, Pid} = start_group(Strategy, Children),
    Pid.

child(Id, Arguments, Restart) -> #{id => Id, start => {?MODULE, start_link, Arguments}, restart => Restart}.

start_child(Supervisor) ->
    {ok, Pid} = supervisor:start_child(Supervisor, []),
    Pid.

stop(Supervisor) ->
    exit(Supervisor, shutdown),
    receive {'EXIT', Supervisor, shutdown} -> ok end.

crash(_Pid, 0) ->
    ok;
crash(Pid, Times) ->
    gen_server:cast(Pid, crash),
    receive {up, Next} -> gen_server:call(Next, question), crash(Next, Times - 1) end.

repeat(0, _Step) ->
    ok;
repeat(Times, Step) ->
    Step(),
    repeat(Times - 1, Step).

%% Microseconds of CPU time for each of Count.
cost(Count, Work) ->
    {Before, _} = statistics(runtime),
    Work(),
    {After, _} = statistics(runtime),
    (After - Before) * 1000 / Count.

memory() ->
    garbage_collect(),
    erlang:memory(total).
