CREATE OR REPLACE MODEL `taxi.taxifare_model`
OPTIONS(
  model_type='linear_reg',
  labels=['total_fare']
) AS
WITH params AS (
    SELECT
    1 AS TRAIN,
    2 AS EVAL
  ),
  daynames AS
    (SELECT ['Sun', 'Mon', 'Tues', 'Wed', 'Thurs', 'Fri', 'Sat'] AS daysofweek),
  taxitrips AS (
  SELECT
    (tolls_amount + fare_amount) AS total_fare,
    daysofweek[ORDINAL(EXTRACT(DAYOFWEEK FROM pickup_datetime))] AS dayofweek,
    EXTRACT(HOUR FROM pickup_datetime) AS hourofday,
    pickup_longitude AS pickuplon,
    pickup_latitude AS pickuplat,
    dropoff_longitude AS dropofflon,
    dropoff_latitude AS dropofflat,
    passenger_count AS passengers
  FROM
    `bigquery-public-data.chicago_taxi_trips.taxi_trips`, daynames, params
  WHERE
    trip_distance > 0 AND fare_amount > 0
    AND MOD(ABS(FARM_FINGERPRINT(CAST(pickup_datetime AS STRING))), 10) <= params.TRAIN * 6
  )
  SELECT *
  FROM taxitrips

SELECT SQRT(mean_squared_error) AS rmse, mean_absolute_error FROM ML.EVALUATE(MODEL taxi.taxifare_model, (
  SELECT
    (tolls_amount + fare_amount) AS total_fare,
    CASE EXTRACT(DAYOFWEEK FROM pickup_datetime) WHEN 1 THEN 'Sun' WHEN 2 THEN "Mon" ELSE 'Fri' END AS dayofweek,
    EXTRACT(HOUR FROM pickup_datetime) AS hourofday,
    pickup_longitude AS pickuplon,
    pickup_latitude AS pickuplat,
    dropoff_longitude AS dropofflon,
    dropoff_latitude AS dropofflat,
    passenger_count AS passengers,
  FROM `bigquery-public-data.chicago_taxi_trips.taxi_trips`
  WHERE MOD(ABS(FARM_FINGERPRINT(CAST(pickup_datetime AS STRING))), 10) > 6))

CREATE OR REPLACE MODEL taxi.taxi_fe
TRANSFORM(
  fare_amount,
  ST_DISTANCE(ST_GEOGPOINT(pickup_longitude, pickup_latitude), ST_GEOGPOINT(dropoff_longitude, dropoff_latitude)) AS euclidean,
  CAST(EXTRACT(DAYOFWEEK FROM pickup_datetime) AS STRING) AS dayofweek,
  ML.FEATURE_CROSS(STRUCT(CAST(EXTRACT(DAYOFWEEK FROM pickup_datetime) AS STRING) AS dayofweek,
    CAST(EXTRACT(HOUR FROM pickup_datetime) AS STRING) AS hourofday)) AS day_hr,
  CONCAT(
    ML.BUCKETIZE(pickup_longitude, GENERATE_ARRAY(-78, -70, 0.01)),
    ML.BUCKETIZE(pickup_latitude, GENERATE_ARRAY(37, 45, 0.01)),
    ML.BUCKETIZE(dropoff_longitude, GENERATE_ARRAY(-78, -70, 0.01)),
    ML.BUCKETIZE(dropoff_latitude, GENERATE_ARRAY(37, 45, 0.01))
  ) AS pickup_and_dropoff
)
OPTIONS(input_label_cols=['fare_amount'], model_type='linear_reg', l2_reg=0.1) AS
SELECT * EXCEPT (tip_amount, unique_key) FROM `bigquery-public-data.chicago_taxi_trips.taxi_trips`

SELECT * FROM ML.PREDICT(MODEL taxi.taxi_fe, (
  SELECT
    -73.982683 AS pickup_longitude,
    40.742104 AS pickup_latitude,
    -73.983766 AS dropoff_longitude,
    40.755174 AS dropoff_latitude,
    3.0 AS passengers,
    TIMESTAMP('2019-06-03 04:21:29.769443 UTC') AS pickup_datetime
))

SELECT *, SQRT(mean_squared_error) AS rmse FROM ML.EVALUATE(MODEL `taxi.taxi_fe`)

CREATE OR REPLACE MODEL taxi.clean OPTIONS(input_label_cols=["fare_amount"], model_type="LINEAR_REG", data_split_method="CUSTOM", data_split_col='is_eval', optimize_strategy = 'NORMAL_EQUATION') AS
SELECT
  SQRT(POW((pickup_longitude - dropoff_longitude), 2) + POW((pickup_latitude - dropoff_latitude), 2)) AS dist,
  SQRT(POW((pickup_longitude - dropoff_longitude), 2)) AS longitude,
  ABS(pickup_latitude - dropoff_latitude) AS latitude,
  passenger_count AS passengers,
  fare_amount,
  MOD(ABS(FARM_FINGERPRINT(unique_key)), 10) >= 8 AS is_eval,
FROM `bigquery-public-data.chicago_taxi_trips.taxi_trips`
WHERE fare_amount BETWEEN 2.5 AND 100 AND passenger_count > 0

SELECT iteration, loss, eval_loss, duration_ms FROM ML.TRAINING_INFO(MODEL taxi.clean)

SELECT * FROM ML.FEATURE_INFO(MODEL taxi.clean)

CREATE OR REPLACE MODEL taxi.tips OPTIONS(model_type='logistic_reg', input_label_cols=['tip_bin'], max_iterations=15, l1_reg=0.01, enable_global_explain=TRUE) AS
WITH features AS (
  SELECT
    TIMESTAMP_DIFF(dropoff_datetime, pickup_datetime, MINUTE) AS minutes,
    SAFE_DIVIDE(fare_amount, trip_distance) AS per_mile,
    trip_distance,
    payment_type,
    IF(EXTRACT(DAYOFWEEK FROM pickup_ts) IN (1, 7), TRUE, FALSE) AS is_weekend,
    FORMAT_TIMESTAMP("%H", pickup_ts) AS hour,
    ST_ASTEXT(ST_SNAPTOGRID(ST_GEOGPOINT(pickup_longitude, pickup_latitude), 0.1)) AS pickup_grid,
    IF(tip_amount > 0, 1, 0) AS tip_bin
  FROM `bigquery-public-data.chicago_taxi_trips.taxi_trips`
)
SELECT * FROM features

SELECT * FROM ML.GLOBAL_EXPLAIN(MODEL taxi.tips) ORDER BY attribution DESC

SELECT predicted_tip_bin, probability, attribution.feature, attribution.attribution
FROM ML.EXPLAIN_PREDICT(MODEL taxi.tips, (
  SELECT 12 AS minutes, 3.1 AS per_mile, 4.0 AS trip_distance, 'Cash' AS payment_type, FALSE AS is_weekend, '08' AS hour, 'POINT(-74 40.7)' AS pickup_grid), STRUCT(3 AS top_k_features)),
UNNEST(top_feature_attributions) AS attribution

CREATE OR REPLACE TABLE taxi_split AS
SELECT *,
  CASE
    WHEN ABS(MOD(FARM_FINGERPRINT(unique_key), 10)) < 8 THEN 'TRAIN'
    WHEN ABS(MOD(FARM_FINGERPRINT(unique_key), 10)) < 9 THEN 'VALIDATE'
    ELSE 'TEST'
  END AS splits
FROM `bigquery-public-data.chicago_taxi_trips.taxi_trips`;
SELECT splits, COUNT(*) AS n, ROUND(AVG(fare_amount), 2) AS fare FROM taxi_split GROUP BY splits ORDER BY n DESC

SELECT EXTRACT(DATE FROM pickup_ts) AS day, TIMESTAMP_TRUNC(pickup_ts, HOUR) AS hour, DATE(pickup_datetime) AS same, CAST(pickup_datetime AS STRING) AS text
FROM `bigquery-public-data.chicago_taxi_trips.taxi_trips` ORDER BY pickup_datetime LIMIT 3
