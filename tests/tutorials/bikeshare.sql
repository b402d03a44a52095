CREATE OR REPLACE MODEL bike_model.model
OPTIONS(input_label_cols=['duration'], model_type='linear_reg') AS
SELECT
  duration
  , start_station_name
  , CAST(EXTRACT(dayofweek FROM start_date) AS STRING) AS dayofweek
  , CAST(EXTRACT(hour FROM start_date) AS STRING) AS hourofday
FROM
  `bigquery-public-data`.san_francisco_bikeshare.bikeshare_trips

SELECT * FROM ML.EVALUATE(MODEL `bike_model.model`)

CREATE OR REPLACE MODEL bike_model.model_fc
OPTIONS(input_label_cols=['duration'], model_type='linear_reg') AS
SELECT
  duration
  , start_station_name
  , IF(EXTRACT(dayofweek FROM start_date) BETWEEN 2 and 6, 'weekday', 'weekend') AS dayofweek
  , ML.BUCKETIZE(EXTRACT(hour FROM start_date), [5, 10, 17]) AS hourofday
FROM `bigquery-public-data`.san_francisco_bikeshare.bikeshare_trips

CREATE OR REPLACE MODEL bike_model.model_bucketized
TRANSFORM(* EXCEPT(start_date)
  , IF(EXTRACT(dayofweek FROM start_date) BETWEEN 2 and 6, 'weekday', 'weekend') AS dayofweek
  , ML.BUCKETIZE(EXTRACT(HOUR FROM start_date), [5, 10, 17]) AS hourofday
  , ML.QUANTILE_BUCKETIZE(member_birth_year, 4) OVER() AS born
  , ML.IMPUTER(member_gender, 'most_frequent') OVER() AS gender
)
OPTIONS(input_label_cols=['duration'], model_type='linear_reg') AS
SELECT
  duration
  , start_station_name
  , start_date
  , member_birth_year, member_gender
FROM `bigquery-public-data`.san_francisco_bikeshare.bikeshare_trips

SELECT * FROM ML.PREDICT(MODEL bike_model.model_bucketized, (
  SELECT 'Station 3' AS start_station_name, CURRENT_TIMESTAMP() AS start_date, 1980 AS member_birth_year, CAST(NULL AS STRING) AS member_gender
))

SELECT * FROM ML.WEIGHTS(MODEL bike_model.model_bucketized)

SELECT processed_input, cw.category, cw.weight
FROM ML.WEIGHTS(MODEL bike_model.model_bucketized), UNNEST(category_weights) AS cw
ORDER BY ABS(cw.weight) DESC
LIMIT 5

SELECT processed_input, model.weight AS weight, model_cats.category AS category_name, model_cats.weight AS category_weight
FROM ML.WEIGHTS(MODEL bike_model.model) AS model, UNNEST(category_weights) AS model_cats
WHERE processed_input = 'dayofweek'
ORDER BY category_name

CREATE OR REPLACE MODEL `bqml_tutorial.london_station_clusters`
OPTIONS(model_type='kmeans', num_clusters=4) AS
WITH hs AS (
  SELECT h.start_station_name AS station_name,
    IF(EXTRACT(DAYOFWEEK FROM h.start_date) = 1 OR EXTRACT(DAYOFWEEK FROM h.start_date) = 7, "weekend", "weekday") AS isweekday,
    h.duration,
    ST_DISTANCE(ST_GEOGPOINT(s.longitude, s.latitude), ST_GEOGPOINT(-0.1, 51.5)) / 1000 AS distance_from_city_center
  FROM `bigquery-public-data.san_francisco_bikeshare.bikeshare_trips` AS h
  JOIN `bigquery-public-data.london_bicycles.bikeshare_stations` AS s
  ON h.start_station_id = s.station_id
  WHERE h.start_date BETWEEN CAST('2015-01-01 00:00:00' AS TIMESTAMP) AND CAST('2016-01-01 00:00:00' AS TIMESTAMP)
),
stationstats AS (
  SELECT station_name, isweekday, AVG(duration) AS duration, COUNT(duration) AS num_trips, MAX(distance_from_city_center) AS distance_from_city_center
  FROM hs
  GROUP BY station_name, isweekday
)
SELECT * EXCEPT(station_name, isweekday)
FROM stationstats

WITH T AS (
  SELECT
    centroid_id,
    ARRAY_AGG(STRUCT(feature AS name, ROUND(numerical_value, 1) AS value) ORDER BY centroid_id) AS cluster
  FROM ML.CENTROIDS(MODEL `bqml_tutorial.london_station_clusters`)
  GROUP BY centroid_id
)
SELECT
  CONCAT('Cluster#', CAST(centroid_id AS STRING)) AS centroid,
  (SELECT value FROM UNNEST(cluster) WHERE name = 'duration') AS duration,
  (SELECT value FROM UNNEST(cluster) WHERE name = 'num_trips') AS num_trips
FROM T
ORDER BY centroid_id ASC

SELECT centroid_id,
  MAX(CASE WHEN feature = 'duration' THEN numerical_value END) AS duration,
  MAX(CASE WHEN feature = "num_trips" THEN numerical_value END) AS num_trips
FROM ML.CENTROIDS(MODEL `bqml_tutorial.london_station_clusters`)
GROUP BY centroid_id
ORDER BY centroid_id

SELECT * EXCEPT(nearest_centroids_distance)
FROM ML.PREDICT(MODEL `bqml_tutorial.london_station_clusters`, (
  SELECT start_station_name AS station_name, AVG(duration) AS duration, COUNT(*) AS num_trips, 3.5 AS distance_from_city_center
  FROM `bigquery-public-data.san_francisco_bikeshare.bikeshare_trips`
  WHERE start_station_name LIKE '%1%'
  GROUP BY 1))
ORDER BY CENTROID_ID

SELECT CENTROID_ID, NEAREST_CENTROIDS_DISTANCE[OFFSET(0)].DISTANCE AS distance
FROM ML.PREDICT(MODEL `bqml_tutorial.london_station_clusters`, (SELECT 900.0 AS duration, 20 AS num_trips, 3.5 AS distance_from_city_center))

SELECT davies_bouldin_index, mean_squared_distance FROM ML.EVALUATE(MODEL `bqml_tutorial.london_station_clusters`)

CREATE OR REPLACE TABLE hourly AS
SELECT EXTRACT(DATE FROM start_date) AS day, EXTRACT(HOUR FROM start_date) AS hour, COUNT(*) AS num_trips, COUNTIF(c_subscription_type = 'Subscriber') AS subscribers,
FROM `bigquery-public-data.san_francisco_bikeshare.bikeshare_trips` GROUP BY day, hour;
CREATE OR REPLACE MODEL bike_model.anomalies OPTIONS(model_type='kmeans', num_clusters=8, kmeans_init_method='KMEANS++') AS SELECT hour, num_trips, subscribers FROM hourly;
SELECT * FROM ML.DETECT_ANOMALIES(MODEL bike_model.anomalies, STRUCT(0.02 AS contamination), TABLE hourly) ORDER BY normalized_distance DESC LIMIT 5

DECLARE station STRING DEFAULT 'Station 3';
DECLARE low, high INT64;
SET low = 300;
SET high = low * 5;
SELECT start_station_name, AVG(duration_sec) AS seconds
FROM `bigquery-public-data.san_francisco_bikeshare.bikeshare_trips`
WHERE start_station_name = station AND duration_sec BETWEEN low AND high
GROUP BY start_station_name
